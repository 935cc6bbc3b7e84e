//! Limits count over all edges together, however the load is spread.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::json;

use super::edges::{BALANCE, Fleet, single, user};
use super::servers::Server;
use crate::edge::Stopwatch;
use crate::life::until;

/// Callers that are at it at once, by edge: the first has most of the load.
const CALLERS: [usize; 3] = [8, 3, 1];
const USERS: usize = 4;
const CALLS: usize = 1600;
/// The brief's default policy.
const PER_MINUTE: u32 = 100;
const BURST: u32 = 20;

/// What one user may do in a while.
fn allowance(seconds: f64) -> usize {
    (f64::from(PER_MINUTE + BURST) + f64::from(PER_MINUTE) / 60.0 * seconds).floor() as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn three_edges_admit_what_one_would() {
    let server = Server::start(&[]);
    let fleet = Fleet::start(&single(server.port), |setup| {
        setup.edge["rate_limits"]["default"] = json!({"requests_per_minute": PER_MINUTE, "burst": BURST});
    })
    .await;
    let tokens: Vec<String> = (0..USERS).map(|number| fleet.edges[0].token(&user(number))).collect();
    for edge in &fleet.edges {
        until("limits are counted in Redis", || edge.edge.logged(" answers, and counts for ") == 1).await;
    }
    let admitted: Vec<AtomicUsize> = (0..USERS).map(|_| AtomicUsize::new(0)).collect();
    let calls = AtomicUsize::new(0);
    let clock = Stopwatch::start();
    let callers = fleet.edges.iter().zip(CALLERS).flat_map(|(edge, callers)| (0..callers).map(move |_| edge));
    let calling = callers.map(async |edge| {
        loop {
            let turn = calls.fetch_add(1, Ordering::Relaxed);
            if turn >= CALLS {
                return;
            }
            let told = edge.get(BALANCE, &tokens[turn % USERS]).await;
            match told.status {
                200 => admitted[turn % USERS].fetch_add(1, Ordering::Relaxed),
                status => {
                    assert_eq!((status, &told.body["error"]["code"]), (429, &"RATE_LIMIT_EXCEEDED".into()), "{told:?}");
                    0
                }
            };
        }
    });
    join_all(calling).await;
    let seconds = clock.elapsed().as_secs_f64();
    let admitted: Vec<usize> = admitted.into_iter().map(AtomicUsize::into_inner).collect();
    let (all, least) = (admitted.iter().sum::<usize>(), USERS * allowance(seconds) * 99 / 100);
    println!("{all} of {} admitted in {seconds:.1} s: {admitted:?}", USERS * allowance(seconds));
    assert!(admitted.iter().all(|admitted| *admitted <= allowance(seconds + 1.0)), "{admitted:?} in {seconds} s");
    assert!(all >= least, "{admitted:?} in {seconds} s, where {least} is the least");
}
