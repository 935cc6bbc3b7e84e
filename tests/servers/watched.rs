//! A primary, its replicas and the sentinels that watch over them.

use std::collections::HashMap;

use super::certificates::Certificates;
use super::server::Server;
use super::until;

/// A primary with replicas, and sentinels that watch over them under the name `tmcp`.
#[derive(Debug)]
pub struct Watched {
    /// Primary and replicas, in no order that lasts.
    pub servers: Vec<Server>,
    /// The sentinels.
    pub sentinels: Vec<Server>,
    /// Which of its ports the sentinels know a server by.
    port: fn(&Server) -> u16,
}

impl Watched {
    /// Starts a primary with two replicas, and three sentinels.
    pub fn start() -> Watched {
        Watched::start_each(&[], |primary| primary.port)
    }

    /// The same, and they speak TLS to each other and to whoever wants it.
    pub fn start_with_tls(certificates: &Certificates) -> Watched {
        Watched::start_each(&certificates.lines(), |primary| primary.tls_port)
    }

    fn start_each(config: &[String], port: fn(&Server) -> u16) -> Watched {
        let mut lines = vec!["repl-ping-replica-period 1", "repl-diskless-sync-delay 0"];
        lines.extend(config.iter().map(String::as_str));
        let primary = Server::start(&lines);
        let follow = format!("replicaof 127.0.0.1 {}", port(&primary));
        lines.push(&follow);
        let replicas = (0..2).map(|_| Server::start(&lines)).collect::<Vec<_>>();
        replicas.iter().for_each(|replica| until(|| replica.follows()));
        let sentinels: Vec<Server> = (0..3).map(|_| Server::start_sentinel(port(&primary), 2, config)).collect();
        for sentinel in &sentinels {
            until(|| {
                let text: Vec<HashMap<String, String>> = sentinel.ask("SENTINEL MASTERS");
                let has = |key: &str, count: &str| text[0].get(key).is_some_and(|found| found == count);
                has("num-slaves", "2") && has("num-other-sentinels", "2")
            });
        }
        let servers = std::iter::once(primary).chain(replicas).collect::<Vec<_>>();
        for server in &servers {
            // From now on a primary that has lost its replicas takes no writes.
            server.ask::<()>("CONFIG SET min-replicas-to-write 1");
        }
        Watched { servers, sentinels, port }
    }

    /// Addresses of the sentinels, as a config lists them.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::url).collect()
    }

    /// The server that the sentinels call the primary.
    pub fn primary(&mut self) -> &mut Server {
        let named = self.named();
        self.servers.iter_mut().find(|server| (self.port)(server) == named).unwrap()
    }

    fn named(&self) -> u16 {
        let (_, port): (String, u16) = self.sentinels[0].ask("SENTINEL GET-MASTER-ADDR-BY-NAME tmcp");
        port
    }

    /// The server at a port.
    pub fn server_mut(&mut self, port: u16) -> &mut Server {
        self.servers.iter_mut().find(|server| server.port == port).unwrap()
    }

    /// Waits until the sentinels have made another server than the one at a port, which is lost, the primary.
    pub fn fails_over_from(&mut self, lost: u16) {
        let lost = (self.port)(self.server_mut(lost));
        until(|| self.named() != lost);
    }
}
