//! Random calls, each answered by the back end as by a model of a few lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Handle;

use super::super::backend::{
    Applied, Backend, Batch, Claimed, Condition, Entry, Lease, Operation, Partition, Read, Version,
};
use super::{Place, batch, fresh};

const NAMES: [&str; 4] = ["a", "ab", "b", "c/é"];
const QUEUES: [&str; 2] = ["q", "qq"];
const IDS: [&str; 3] = ["1", "2", "30"];

/// A condition, before the versions are known.
#[derive(Clone, Copy, Debug)]
enum Demand {
    Absent,
    Present,
    /// Of the version that is there now.
    Current,
    /// Of a version that nothing has.
    Other,
}

#[derive(Clone, Debug)]
enum Change {
    Put(usize, Vec<u8>, Option<Duration>),
    Delete(usize),
    Enqueue(usize, usize, Duration),
    /// With the item's latest lease, another one or none.
    Dequeue(usize, usize, Option<bool>),
}

#[derive(Clone, Debug)]
enum Step {
    Get(usize),
    Scan(String, Option<usize>, usize),
    /// A batch, and how often it is sent.
    Apply(Vec<(usize, Demand)>, Vec<Change>, usize),
    Claim(usize, Duration, usize),
    Pass(Duration),
}

fn steps(holds_time: bool) -> impl Strategy<Value = Vec<Step>> {
    let second = Duration::from_secs(1);
    // Where time runs on, nothing may become due or expire while the model is not looking.
    let times = if holds_time { vec![second, second * 2, second * 3600] } else { vec![second * 3600] };
    let time = proptest::sample::select(times);
    let ttl = proptest::option::of(time.clone());
    let due = prop_oneof![Just(Duration::ZERO), time.clone()];
    let name = 0..NAMES.len();
    let demand = prop_oneof![Just(Demand::Absent), Just(Demand::Present), Just(Demand::Current), Just(Demand::Other)];
    let change = prop_oneof![
        (name.clone(), prop::collection::vec(any::<u8>(), 0..9), ttl).prop_map(|(n, v, t)| Change::Put(n, v, t)),
        name.clone().prop_map(Change::Delete),
        (0..QUEUES.len(), 0..IDS.len(), due).prop_map(|(q, id, due)| Change::Enqueue(q, id, due)),
        (0..QUEUES.len(), 0..IDS.len(), any::<Option<bool>>()).prop_map(|(q, id, l)| Change::Dequeue(q, id, l)),
    ];
    let demands = prop::collection::vec((name.clone(), demand), 0..3);
    let apply = (demands, prop::collection::vec(change, 0..5), 1..3_usize).prop_map(|(d, c, n)| Step::Apply(d, c, n));
    let pass = u32::from(holds_time);
    let step = prop_oneof![
        3 => name.clone().prop_map(Step::Get),
        2 => (proptest::sample::select(vec!["", "a", "c"]), proptest::option::of(name), 0..5_usize)
            .prop_map(|(prefix, after, limit)| Step::Scan(prefix.to_owned(), after, limit)),
        6 => apply,
        3 => (0..QUEUES.len(), time.clone(), 0..4_usize).prop_map(|(q, lease, max)| Step::Claim(q, lease, max)),
        pass => time.prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Clone, Debug)]
struct Item {
    due: Duration,
    value: Vec<u8>,
    lease: Option<Lease>,
    claims: u32,
    version: Version,
}

/// One partition, as the contract has it.
#[derive(Debug, Default)]
struct Model {
    now: Duration,
    values: BTreeMap<String, (Entry, Option<Duration>)>,
    items: BTreeMap<(usize, usize), Item>,
}

impl Model {
    fn get(&self, name: &str) -> Option<Entry> {
        let (entry, until) = self.values.get(name)?;
        until.is_none_or(|until| self.now < until).then(|| entry.clone())
    }

    fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Entry)> {
        let named = self.values.keys().filter(|name| name.starts_with(prefix));
        let after = named.filter(|name| after.is_none_or(|after| name.as_str() > after));
        after.filter_map(|name| Some((name.clone(), self.get(name)?))).take(limit).collect()
    }

    fn apply(&mut self, batch: &Batch) -> Applied {
        for (condition, (name, demanded)) in batch.conditions.iter().enumerate() {
            let found = self.get(name);
            let holds = match demanded {
                Condition::Absent => found.is_none(),
                Condition::Present => found.is_some(),
                Condition::Is(version) => found.as_ref().is_some_and(|entry| entry.version == *version),
            };
            if !holds {
                return Applied::Conflict { condition, found };
            }
        }
        for operation in &batch.operations {
            self.operate(batch.version, operation);
        }
        Applied::Done
    }

    fn operate(&mut self, version: Version, operation: &Operation) {
        let place = |queue: &str, id: &str| {
            let at = |all: &[&str], one: &str| all.iter().position(|other| *other == one).unwrap();
            (at(&QUEUES, queue), at(&IDS, id))
        };
        match operation {
            Operation::Put { name, value, ttl } => {
                let entry = Entry { value: value.clone(), version };
                self.values.insert(name.clone(), (entry, ttl.map(|ttl| self.now + ttl)));
            }
            Operation::Delete { name } => {
                self.values.remove(name);
            }
            Operation::Enqueue { queue, id, value, due_in } => {
                let item = Item { due: self.now + *due_in, value: value.to_vec(), lease: None, claims: 0, version };
                self.items.insert(place(queue, id), item);
            }
            Operation::Dequeue { queue, id, lease } => {
                let place = place(queue, id);
                if self.items.get(&place).is_some_and(|item| lease.is_none() || *lease == item.lease) {
                    self.items.remove(&place);
                }
            }
        }
    }

    /// Whether a batch has left something in place, so that sending it again is known to be that.
    fn shows(&self, batch: &Batch) -> bool {
        self.values.values().any(|(entry, _)| entry.version == batch.version)
            || self.items.values().any(|item| item.version == batch.version)
    }

    /// Holds claimed items against what was due, and takes note of them.
    fn claimed(&mut self, queue: usize, lease: Duration, max: usize, claimed: &[Claimed]) {
        let now = self.now;
        let is_due = |item: &Item| item.due <= now;
        let mut due: Vec<Duration> = self
            .items
            .iter()
            .filter(|((of, _), item)| *of == queue && is_due(item))
            .map(|(_, item)| item.due)
            .collect();
        due.sort();
        due.truncate(max);
        let mut order = Vec::new();
        for one in claimed {
            let id = IDS.iter().position(|id| *id == one.id).unwrap();
            let item = self.items.get_mut(&(queue, id)).expect("an item that is there");
            order.push(item.due);
            assert_eq!((item.value.as_slice(), item.claims + 1), (one.value.as_ref(), one.claims));
            (item.due, item.lease, item.claims) = (now + lease, Some(one.lease), one.claims);
        }
        assert_eq!(order, due, "the longest due first, and as many as there are");
    }
}

fn built(partition: &Partition, model: &Model, demands: &[(usize, Demand)], changes: &[Change]) -> Batch {
    let other = batch(partition).version;
    let demanded = demands.iter().fold(batch(partition), |batch, (name, demand)| {
        let name = NAMES[*name];
        let condition = match demand {
            Demand::Absent => Condition::Absent,
            Demand::Present => Condition::Present,
            Demand::Current => Condition::Is(model.get(name).map_or(other, |entry| entry.version)),
            Demand::Other => Condition::Is(other),
        };
        batch.when(name, condition)
    });
    changes.iter().fold(demanded, |batch, change| match change {
        Change::Put(name, value, ttl) => batch.put(NAMES[*name], value.clone(), *ttl),
        Change::Delete(name) => batch.delete(NAMES[*name]),
        Change::Enqueue(queue, id, due_in) => batch.with(super::queues::item(QUEUES[*queue], IDS[*id], *due_in)),
        Change::Dequeue(queue, id, lease) => {
            let latest = model.items.get(&(*queue, *id)).and_then(|item| item.lease);
            let lease = lease.map(|held| if held { latest.unwrap_or(Lease(1)) } else { Lease(2) });
            batch.with(super::queues::dequeue(QUEUES[*queue], IDS[*id], lease))
        }
    })
}

async fn run(store: &dyn Backend, place: &dyn Place, steps: &[Step]) {
    let (partition, mut model) = (fresh(), Model::default());
    for step in steps {
        match step {
            Step::Get(name) => {
                let name = NAMES[*name];
                assert_eq!(store.get(&partition, name, Read::Latest).await.unwrap(), model.get(name));
            }
            Step::Scan(prefix, after, limit) => {
                let after = after.map(|name| NAMES[name]);
                let found = store.scan(&partition, prefix, after, *limit, Read::Latest).await.unwrap();
                assert_eq!(found, model.scan(prefix, after, *limit));
            }
            Step::Apply(demands, changes, times) => {
                let batch = built(&partition, &model, demands, changes);
                assert_eq!(store.apply(batch.clone()).await.unwrap(), model.apply(&batch));
                if *times > 1 && model.shows(&batch) {
                    assert_eq!(store.apply(batch).await.unwrap(), Applied::Done, "sent again");
                }
            }
            Step::Claim(queue, lease, max) => {
                let claimed = store.claim(&partition, QUEUES[*queue], *lease, *max).await.unwrap();
                model.claimed(*queue, *lease, *max, &claimed);
            }
            Step::Pass(time) => {
                place.pass(*time).await;
                model.now += *time;
            }
        }
    }
}

/// Whatever is called in whatever order, the back end answers as the model does.
pub(super) fn agrees(store: &Arc<dyn Backend>, place: &dyn Place) {
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let runtime = Handle::current();
    let agreed = tokio::task::block_in_place(|| {
        runner.run(&steps(place.holds_time()), |steps| {
            runtime.block_on(run(&**store, place, &steps));
            Ok(())
        })
    });
    agreed.unwrap();
}
