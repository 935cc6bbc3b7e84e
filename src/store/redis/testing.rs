//! Real Redis servers for tests: each on a free loopback port and in a folder of its own, killed with what starts it.
//!
//! For every test that needs a Redis; knows nothing of the rest of this crate.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use redis::{Client, Connection, FromRedisValue};
use tempfile::TempDir;

/// A free port on loopback. Somebody else may take it before it is used: then whoever wanted it tries another one.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Looks until something holds. Tests that never get there hang, and say so by that.
pub fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        thread::sleep(Duration::from_millis(10));
    }
}

/// A running `redis-server` or `redis-sentinel`.
#[derive(Debug)]
pub struct Server {
    /// Its port, plain or TLS.
    pub port: u16,
    process: Option<Child>,
    folder: TempDir,
    config: Vec<String>,
    sentinel: bool,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Server {
    /// Starts one that keeps everything (`appendfsync always`), with `config` lines besides.
    pub fn start(config: &[&str]) -> Server {
        let lines = ["appendonly yes", "appendfsync always", "save \"\""].iter().chain(config);
        Server::on_any_port(lines.map(|line| (*line).to_owned()).collect(), false)
    }

    /// Starts a node of a cluster.
    fn start_node() -> Server {
        let (bus, timeout) = (format!("cluster-port {}", free_port()), "cluster-node-timeout 1000");
        Server::start(&["cluster-enabled yes", &bus, timeout, "repl-ping-replica-period 1", "repl-timeout 5"])
    }

    fn start_sentinel(primary: u16, quorum: usize) -> Server {
        let lines = [
            format!("sentinel monitor tmcp 127.0.0.1 {primary} {quorum}"),
            "sentinel down-after-milliseconds tmcp 1000".to_owned(),
            "sentinel failover-timeout tmcp 5000".to_owned(),
        ];
        Server::on_any_port(lines.to_vec(), true)
    }

    fn on_any_port(config: Vec<String>, sentinel: bool) -> Server {
        loop {
            let (port, folder, config) = (free_port(), tempfile::tempdir().unwrap(), config.clone());
            let mut server = Server { port, process: None, folder, config, sentinel };
            server.write_config();
            if server.run() {
                return server;
            }
        }
    }

    fn write_config(&self) {
        let plain = !self.config.iter().any(|line| line.starts_with("tls-port"));
        let mut text = format!("bind 127.0.0.1\ndir {}\nlogfile \"\"\n", self.folder.path().display());
        text += &if plain { format!("port {}\n", self.port) } else { "port 0\n".to_owned() };
        self.config.iter().for_each(|line| text += &line.replace("{port}", &self.port.to_string()).add_line());
        fs::write(self.folder.path().join("server.conf"), text).unwrap();
    }

    /// Starts the process and reads its log until it serves; false when it ends instead.
    fn run(&mut self) -> bool {
        let program = if self.sentinel { "redis-sentinel" } else { "redis-server" };
        let mut process = Command::new(program)
            .arg(self.folder.path().join("server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; ./test installs it"));
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = |line: &String| line.contains("Ready to accept connections") || line.contains("Sentinel ID is");
        let serves = log.by_ref().map_while(Result::ok).any(|line| ready(&line));
        if !serves {
            process.wait().unwrap();
            return false;
        }
        // A full pipe would stop the server.
        thread::spawn(move || log.for_each(drop));
        self.process = Some(process);
        true
    }

    /// Ends it without a word, as a power cut does to the process.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it again on its port with what its disk holds.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none() && self.run(), "the server does not start again");
    }

    /// Stops it from answering, with its connections open; [`Server::thaw`] lets it go on.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Its address as a config says it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of the test's own.
    pub fn connection(&self) -> Connection {
        Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// One command of the test's own.
    pub fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let mut words = command.split(' ');
        let mut sent = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            sent.arg(word);
        });
        sent.query(&mut self.connection()).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn is_primary(&self) -> bool {
        self.ask::<String>("INFO replication").contains("role:master")
    }

    /// Whether it is a replica in touch with its primary.
    pub fn follows(&self) -> bool {
        self.ask::<String>("INFO replication").contains("master_link_status:up")
    }
}

trait AddLine {
    fn add_line(self) -> String;
}

impl AddLine for String {
    fn add_line(mut self) -> String {
        self.push('\n');
        self
    }
}

/// A primary with replicas, and sentinels that watch over them under the name `tmcp`.
#[derive(Debug)]
pub struct Watched {
    /// Primary and replicas, in no order that lasts.
    pub servers: Vec<Server>,
    /// The sentinels.
    pub sentinels: Vec<Server>,
}

impl Watched {
    /// Starts a primary with two replicas, and three sentinels.
    pub fn start() -> Watched {
        let replicating = ["repl-ping-replica-period 1", "repl-diskless-sync-delay 0"];
        let primary = Server::start(&replicating);
        let follow = format!("replicaof 127.0.0.1 {}", primary.port);
        let replicas = (0..2).map(|_| Server::start(&[replicating[0], replicating[1], &follow])).collect::<Vec<_>>();
        replicas.iter().for_each(|replica| until(|| replica.follows()));
        let sentinels: Vec<Server> = (0..3).map(|_| Server::start_sentinel(primary.port, 2)).collect();
        for sentinel in &sentinels {
            until(|| {
                let text: Vec<std::collections::HashMap<String, String>> = sentinel.ask("SENTINEL MASTERS");
                let has = |key: &str, count: &str| text[0].get(key).is_some_and(|found| found == count);
                has("num-slaves", "2") && has("num-other-sentinels", "2")
            });
        }
        let servers = std::iter::once(primary).chain(replicas).collect::<Vec<_>>();
        for server in &servers {
            // From now on a primary that has lost its replicas takes no writes.
            server.ask::<()>("CONFIG SET min-replicas-to-write 1");
        }
        Watched { servers, sentinels }
    }

    /// Addresses of the sentinels, as a config lists them.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    /// The server that the sentinels call the primary.
    pub fn primary(&mut self) -> &mut Server {
        let (_, port): (String, u16) = self.sentinels[0].ask("SENTINEL GET-MASTER-ADDR-BY-NAME tmcp");
        self.servers.iter_mut().find(|server| server.port == port).unwrap()
    }
}

impl Watched {
    /// The server at a port.
    pub fn server_mut(&mut self, port: u16) -> &mut Server {
        self.servers.iter_mut().find(|server| server.port == port).unwrap()
    }

    /// Waits until the sentinels have made another server than the lost one the primary.
    pub fn fails_over_from(&mut self, lost: u16) {
        until(|| {
            let (_, port): (String, u16) = self.sentinels[0].ask("SENTINEL GET-MASTER-ADDR-BY-NAME tmcp");
            port != lost
        });
    }
}

/// A cluster of three primaries with a replica each.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes; the first three began as primaries.
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// Starts one and waits until it serves every slot from a primary and a replica.
    pub fn start() -> Cluster {
        let nodes: Vec<Server> = (0..6).map(|_| Server::start_node()).collect();
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
        let cluster = Cluster { nodes };
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
        let of = format!("master_port:{primary}\r");
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
