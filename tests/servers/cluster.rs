//! A Redis Cluster.

use std::thread;
use std::time::Duration;

use super::certificates::Certificates;
use super::server::Server;
use super::until;

/// A cluster of three primaries with a replica each.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes; the first three began as primaries.
    pub nodes: Vec<Server>,
    /// Which of its ports a node is known to its replicas by.
    port: fn(&Server) -> u16,
}

impl Cluster {
    /// Starts one and waits until it serves every slot from a primary and a replica.
    pub fn start() -> Cluster {
        Cluster::start_each(&[], |node| node.port)
    }

    /// The same, and its nodes speak TLS to each other and to whoever wants it.
    pub fn start_with_tls(certificates: &Certificates) -> Cluster {
        let mut lines = certificates.lines();
        lines.push("tls-cluster yes".to_owned());
        Cluster::start_each(&lines, |node| node.tls_port)
    }

    fn start_each(config: &[String], port: fn(&Server) -> u16) -> Cluster {
        let nodes: Vec<Server> = (0..6).map(|_| Server::start_node(config)).collect();
        for (node, slots) in nodes.iter().zip(["0 5460", "5461 10922", "10923 16383"]) {
            node.ask::<()>(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
        }
        let port_of =
            |node: &Server| node.config.iter().find_map(|line| line.strip_prefix("cluster-port ")).unwrap().to_owned();
        for node in &nodes[1..] {
            nodes[0].ask::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {}", node.port, port_of(node)));
        }
        let all_known = |node: &Server| {
            let text: String = node.ask("CLUSTER NODES");
            text.lines().count() == 6 && !text.contains("handshake")
        };
        nodes.iter().for_each(|node| until(|| all_known(node)));
        for (primary, replica) in nodes[..3].iter().zip(&nodes[3..]) {
            let id: String = primary.ask("CLUSTER MYID");
            replica.ask::<()>(&format!("CLUSTER REPLICATE {id}"));
        }
        let replicas_known = |node: &Server| node.ask::<String>("CLUSTER NODES").matches("slave").count() == 3;
        nodes.iter().for_each(|node| until(|| replicas_known(node)));
        let cluster = Cluster { nodes, port };
        cluster.settle();
        for node in &cluster.nodes {
            node.ask::<()>("CONFIG SET min-replicas-to-write 1");
        }
        cluster
    }

    /// Waits until all running nodes say that the cluster is well, and every replica follows.
    pub fn settle(&self) {
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            until(|| {
                node.ask::<String>("CLUSTER INFO").contains("cluster_state:ok") && (node.is_primary() || node.follows())
            });
        }
    }

    /// Addresses of its nodes, as a config lists them.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// A key that is there and begins so.
    pub fn key(&self, beginning: &str) -> Option<String> {
        let alive = self.nodes.iter().filter(|node| node.process.is_some());
        let mut found = alive.flat_map(|node| node.ask::<Vec<String>>(&format!("KEYS {}*", beginning)));
        found.next()
    }

    /// The node that serves a key.
    pub fn primary_of(&self, key: &str) -> &Server {
        let alive = self.nodes.iter().find(|node| node.process.is_some()).unwrap();
        self.holder_of(alive.ask(&format!("CLUSTER KEYSLOT {key}")))
    }

    /// The node at a port.
    pub fn node(&self, port: u16) -> &Server {
        self.nodes.iter().find(|node| node.port == port).unwrap()
    }

    /// The node at a port.
    pub fn node_mut(&mut self, port: u16) -> &mut Server {
        self.nodes.iter_mut().find(|node| node.port == port).unwrap()
    }

    /// The port of a replica in touch with the primary at a port.
    pub fn replica_of(&self, primary: u16) -> u16 {
        let of = format!("master_port:{}\r", (self.port)(self.node(primary)));
        let follows = |node: &&Server| {
            node.process.is_some() && node.port != primary && {
                let info: String = node.ask("INFO replication");
                info.contains(&of) && info.contains("master_link_status:up")
            }
        };
        loop {
            if let Some(replica) = self.nodes.iter().find(follows) {
                return replica.port;
            }
            // As in `until`.
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a replica has become a primary.
    pub fn takes_over(&self, replica: u16) {
        until(|| self.node(replica).is_primary());
    }

    /// Moves a slot to the primary after the one that has it, as `redis-cli --cluster reshard` does.
    pub fn migrate(&self, slot: u16) {
        let from = self.holder_of(slot);
        let to = self.nodes.iter().find(|node| node.port != from.port && node.is_primary()).unwrap();
        let (from_id, to_id): (String, String) = (from.ask("CLUSTER MYID"), to.ask("CLUSTER MYID"));
        to.ask::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
        from.ask::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
        loop {
            let keys: Vec<String> = from.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 1"));
            let Some(key) = keys.first() else { break };
            from.ask::<()>(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port));
        }
        for node in [to, from] {
            node.ask::<()>(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
        }
    }

    fn holder_of(&self, slot: u16) -> &Server {
        let alive = self.nodes.iter().find(|node| node.process.is_some()).unwrap();
        let runs: Vec<Vec<redis::Value>> = alive.ask("CLUSTER SLOTS");
        let number = |value: &redis::Value| redis::from_redis_value::<u16>(value.clone()).unwrap();
        let run = runs.iter().find(|run| (number(&run[0])..=number(&run[1])).contains(&slot)).unwrap();
        let primary: Vec<redis::Value> = redis::from_redis_value(run[2].clone()).unwrap();
        self.node(number(&primary[1]))
    }
}
