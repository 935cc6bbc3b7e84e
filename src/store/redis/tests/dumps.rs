//! Dumps of servers that change meanwhile: whole, or not at all.

use super::*;
use crate::store::{Batch, Partition};

async fn fill(redis: &Redis) {
    for n in 0..200 {
        let batch = Batch::new(Partition::of("dump", &[&n.to_string()])).unwrap();
        redis.apply(batch.put("a", "1", None)).await.unwrap();
    }
}

/// Goes on from a cursor to the end; gives how many records came.
async fn rest(redis: &Redis, mut cursor: Option<String>) -> Result<usize, StoreError> {
    let mut count = 0;
    loop {
        let (records, next) = redis.dump(cursor, 10).await?;
        count += records.len();
        match next {
            Some(next) => cursor = Some(next),
            None => return Ok(count),
        }
    }
}

#[tokio::test]
async fn a_server_that_was_started_again_ends_it() {
    let mut server = Server::start(&[]);
    let redis = open(&config(RedisMode::Single, &[server.url()]));
    fill(&redis).await;
    let (first, cursor) = redis.dump(None, 10).await.unwrap();
    assert_eq!(first.len() + rest(&redis, cursor.clone()).await.unwrap(), 200);
    server.kill();
    server.start_again();
    // The connection to the server that was breaks first.
    while !rest(&redis, cursor.clone()).await.unwrap_err().to_string().contains("begin again") {}
    assert_eq!(rest(&redis, None).await.unwrap(), 200);
}

#[tokio::test]
async fn slots_that_move_end_it() {
    let cluster = Cluster::start();
    let redis = open(&config(RedisMode::Cluster, &cluster.urls()));
    fill(&redis).await;
    let (_, cursor) = redis.dump(None, 10).await.unwrap();
    let slot = slot_of(keys::Key::Names.of(&Partition::of("dump", &["7"])).as_bytes());
    let runs = |cluster: &Cluster| -> usize {
        let told: Vec<Vec<Value>> = cluster.nodes[0].ask("CLUSTER SLOTS");
        told.len()
    };
    let before = runs(&cluster);
    cluster.migrate(slot);
    // Servers tell each other of it in their own time.
    super::super::testing::until(|| runs(&cluster) != before);
    let told = rest(&redis, cursor).await.unwrap_err().to_string();
    assert!(told.contains("begin again"), "{told}");
}
