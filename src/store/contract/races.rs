//! Many callers at the same time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::backend::{Applied, Backend, Condition, Version};
use super::queues::item;
use super::{batch, done, fresh, get};

const CALLERS: usize = 50;

/// Runs a task per caller, on either handle in turn, and gives what each returned.
async fn together<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    handles: [&Arc<dyn Backend>; 2],
    task: impl Fn(Arc<dyn Backend>) -> F,
) -> Vec<T> {
    let callers = handles.into_iter().cycle().take(CALLERS);
    let tasks: Vec<_> = callers.map(|store| tokio::spawn(task(store.clone()))).collect();
    futures::future::join_all(tasks).await.into_iter().map(|result| result.unwrap()).collect()
}

pub(super) async fn one_winner(one: &Arc<dyn Backend>, other: &Arc<dyn Backend>) {
    let here = fresh();
    let base = done(&**one, batch(&here).put("code", "fresh", None)).await;
    let outcomes = together([one, other], |store| {
        let batch = batch(&here).when("code", Condition::Is(base)).when("used", Condition::Absent);
        let batch = batch.delete("code").put("used", "1", None);
        async move { (batch.version, store.apply(batch).await.unwrap()) }
    })
    .await;
    let winners: Vec<Version> =
        outcomes.iter().filter(|(_, applied)| *applied == Applied::Done).map(|(version, _)| *version).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(get(&**one, &here, "used").await.map(|entry| entry.version), winners.first().copied());
    assert_eq!(get(&**one, &here, "code").await, None);
}

pub(super) async fn nothing_is_lost(one: &Arc<dyn Backend>, other: &Arc<dyn Backend>) {
    let here = fresh();
    done(&**one, batch(&here).put("sum", "0", None)).await;
    together([one, other], |store| {
        let here = here.clone();
        async move {
            loop {
                let found = get(&*store, &here, "sum").await.unwrap();
                let sum: u64 = str::from_utf8(&found.value).unwrap().parse().unwrap();
                let next = (sum + 1).to_string();
                let next = batch(&here).when("sum", Condition::Is(found.version)).put("sum", next, None);
                if store.apply(next).await.unwrap() == Applied::Done {
                    break;
                }
            }
        }
    })
    .await;
    assert_eq!(get(&**other, &here, "sum").await.unwrap().value.as_ref(), CALLERS.to_string().as_bytes());
}

pub(super) async fn claimed_once(one: &Arc<dyn Backend>, other: &Arc<dyn Backend>) {
    let here = fresh();
    let items = (0..CALLERS * 2).fold(batch(&here), |batch, n| batch.with(item("q", &n.to_string(), Duration::ZERO)));
    done(&**one, items).await;
    let claims = together([one, other], |store| {
        let here = here.clone();
        async move { store.claim(&here, "q", Duration::from_secs(3600), 3).await.unwrap() }
    })
    .await;
    let claimed: Vec<String> = claims.into_iter().flatten().map(|item| item.id).collect();
    let different: HashSet<&String> = claimed.iter().collect();
    assert_eq!((claimed.len(), different.len()), (CALLERS * 2, CALLERS * 2), "all of them, each by one");
}
