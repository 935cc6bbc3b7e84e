//! A primary, its replicas and the sentinels that watch over them.

use std::collections::HashMap;

use super::server::Server;
use super::until;

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
