//! A primary is lost under load: callers are put off at worst, and nothing that was acknowledged is lost or done twice.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::json;

use super::edges::{BALANCE, Fleet, Told, cluster, sentinel, single, user};
use super::servers::{Cluster, Server, Watched, until};

/// Mini-apps that are at it at once.
const CLIENTS: usize = 4;

/// Whether an edge said "later" rather than yes. Anything else is a fault.
fn is_put_off(told: &Told) -> bool {
    assert!(matches!(told.status, 200 | 429 | 503), "{told:?}");
    told.status != 200
}

/// Clients that go round: a balance at one edge, a refresh at the next; put off, they send the same again.
struct Clients<'f> {
    fleet: &'f Fleet,
    stop: AtomicBool,
    /// Refreshes that went well.
    done: AtomicUsize,
    put_off: AtomicUsize,
}

impl<'f> Clients<'f> {
    fn new(fleet: &'f Fleet) -> Clients<'f> {
        Clients { fleet, stop: AtomicBool::new(false), done: AtomicUsize::new(0), put_off: AtomicUsize::new(0) }
    }

    async fn run(&self) {
        join_all((0..CLIENTS).map(|number| self.client(number))).await;
    }

    async fn client(&self, number: usize) {
        let mut tokens = self.fleet.sign_in(&user(number)).await;
        for turn in number.. {
            if is_put_off(&self.fleet.edge(turn).get(BALANCE, &tokens.text("access_token")).await) {
                self.put_off.fetch_add(1, Ordering::Relaxed);
            }
            let spent = tokens.text("refresh_token");
            // One who is refused here has lost what it was told it has.
            let mut again = turn;
            tokens = loop {
                let told = self.fleet.edge(again).refresh(&spent).await;
                if !is_put_off(&told) {
                    break told;
                }
                self.put_off.fetch_add(1, Ordering::Relaxed);
                again += 1;
            };
            let repeated = self.fleet.edge(turn + 1).refresh(&spent).await;
            if !is_put_off(&repeated) {
                assert_eq!(repeated, tokens, "one token, two pairs");
            }
            self.done.fetch_add(1, Ordering::Relaxed);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Waits until some have got further.
    async fn progress(&self) {
        let goal = self.done.load(Ordering::Relaxed) + 3 * CLIENTS;
        while self.done.load(Ordering::Relaxed) < goal {
            tokio::task::yield_now().await;
        }
    }

    fn ends(&self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let (done, put_off) = (self.done.load(Ordering::Relaxed), self.put_off.load(Ordering::Relaxed));
        println!("{what}: {done} refreshes, {put_off} calls put off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_a_primary() {
    let mut servers = Cluster::start();
    let fleet = Fleet::start(&cluster(&servers), |_| ()).await;
    fleet.command(&["revoke", "--token", "nobody's"]);
    let clients = Clients::new(&fleet);
    let operator = async {
        // The one with the log of revocations, on which everything with money depends; then another.
        for number in 0..2 {
            clients.progress().await;
            tokio::task::block_in_place(|| {
                let victim = match number {
                    0 => servers.primary_of(&servers.key("tmcp:{revocations:").unwrap()).port,
                    _ => servers.primary_of("tmcp:{any}").port,
                };
                let replica = servers.replica_of(victim);
                servers.node_mut(victim).kill();
                servers.takes_over(replica);
                // It takes writes again when it has a replica again.
                servers.node_mut(victim).start_again();
            });
        }
        clients.progress().await;
        clients.ends("a cluster that loses primaries");
    };
    tokio::join!(clients.run(), operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_under_sentinels_that_is_lost() {
    let mut servers = Watched::start();
    let fleet = Fleet::start(&sentinel(&servers), |_| ()).await;
    let clients = Clients::new(&fleet);
    let operator = async {
        clients.progress().await;
        tokio::task::block_in_place(|| {
            let victim = servers.primary().port;
            servers.primary().kill();
            servers.fails_over_from(victim);
            servers.server_mut(victim).start_again();
        });
        clients.progress().await;
        clients.ends("a primary under sentinels");
    };
    tokio::join!(clients.run(), operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_safe_is_not_handed_out_by_asking_again() {
    let primary = Server::start(&[]);
    let replica = Server::start(&[&format!("replicaof 127.0.0.1 {}", primary.port)]);
    until(|| replica.follows());
    primary.ask::<()>("CONFIG SET min-replicas-to-write 1");
    let mut store = single(primary.port);
    store["wait_replicas"] = json!(1);
    store["timeouts"]["command"] = json!("300ms");
    store["timeouts"]["total"] = json!("2s");
    let fleet = Fleet::start(&store, |_| ()).await;
    let spent = fleet.sign_in(&user(0)).await.text("refresh_token");
    replica.freeze();
    for edge in &fleet.edges {
        let told = edge.refresh(&spent).await;
        assert_eq!((told.status, &told.body["error"]), (503, &"temporarily_unavailable".into()), "{told:?}");
    }
    replica.thaw();
    let mut told = fleet.edges[0].refresh(&spent).await;
    while is_put_off(&told) {
        told = fleet.edges[0].refresh(&spent).await;
    }
    assert_eq!(fleet.edges[1].refresh(&spent).await, told, "the pair that was made then");
    assert_eq!(fleet.edges[2].refresh(&told.text("refresh_token")).await.status, 200);
}
