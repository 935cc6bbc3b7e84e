//! The load generator: as fast as the other side answers, or at a fixed rate.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::Instant;

use super::connection::{Connection, Target};
use super::histogram::Histogram;
use super::requests::{Picker, Requests};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is sent where, over how many connections.
pub struct Load {
    /// Whom to.
    pub target: Target,
    /// What.
    pub requests: Rc<Requests>,
    /// In which order.
    pub picker: Rc<Picker>,
    /// Over how many connections.
    pub connections: usize,
}

/// What came of it.
#[derive(Clone, Default)]
pub struct Outcome {
    /// Answers with a status below 400.
    pub answered: u64,
    /// Everything else.
    pub failed: u64,
    /// The first failure, in words.
    pub first_failure: Option<String>,
    /// From when a request was due to the end of its answer. Empty when sending as fast as possible.
    pub latency: Histogram,
    /// How long it took.
    pub elapsed: Duration,
}

impl Outcome {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn fail(&mut self, why: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(why);
    }
}

/// One connection and its request buffer; connects again when the server has closed.
struct Client {
    load: Rc<Load>,
    connection: Option<Connection>,
    request: Vec<u8>,
}

impl Client {
    fn new(load: &Rc<Load>) -> Client {
        Client { load: load.clone(), connection: None, request: Vec::new() }
    }

    async fn once(&mut self) -> Result<(), String> {
        let (token, number) = self.load.picker.pick();
        self.load.requests.copy(token, number, &mut self.request);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.load.target)
                .await
                .map_err(|e| format!("connecting to {}: {e}", self.load.target.address))?,
        };
        let status = connection.exchange(&self.request).await.map_err(|e| e.to_string())?;
        if status >= 400 {
            let answer = connection.text();
            if !connection.closing {
                self.connection = Some(connection);
            }
            return Err(answer);
        }
        if !connection.closing {
            self.connection = Some(connection);
        }
        Ok(())
    }
}

/// Sends as fast as answers come until `count` requests or `time` are over, whichever is first.
///
/// Uses its core up: waking a process that sleeps costs the one who sends to it, and the slower a proxy is, the more
/// often the load behind and before it would sleep. A slow proxy would be charged twice.
pub async fn saturate(load: &Rc<Load>, time: Duration, count: u64) -> Outcome {
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let left = Rc::new(Cell::new(count));
    let over = Rc::new(Cell::new(false));
    let start = Instant::now();
    let clients = (0..load.connections).map(|_| {
        let (outcome, left, over) = (outcome.clone(), left.clone(), over.clone());
        let mut client = Client::new(load);
        // A task each, rather than one for all: tokio then wakes, polls and budgets each by itself.
        spawn_local(async move {
            while !over.get() && left.get() > 0 {
                left.set(left.get() - 1);
                match client.once().await {
                    Ok(()) => outcome.borrow_mut().answered += 1,
                    Err(why) => {
                        outcome.borrow_mut().fail(why);
                        // Whoever fails all the time is not hammered.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        })
    });
    let all = futures::future::join_all(clients);
    let clock = async {
        tokio::time::sleep(time).await;
        over.set(true);
        tokio::time::sleep(PATIENCE).await;
    };
    let awake = async {
        loop {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = all => {}
        () = clock => outcome.borrow_mut().fail(format!("no answer within {PATIENCE:?}")),
        () = awake => {}
    }
    let mut outcome = outcome.take();
    outcome.elapsed = start.elapsed();
    outcome
}

/// What the clients wait on.
#[derive(Default)]
struct Due {
    jobs: VecDeque<Instant>,
    idle: Vec<Waker>,
    over: bool,
}

/// Sends `rate` requests a second for `time`, whether or not answers come: each has its moment, and its latency counts
/// from that moment even when it had to wait for a free connection (so a server that stalls cannot hide it).
///
/// Uses its core up: timers are too coarse for what is measured here.
pub async fn at_rate(load: &Rc<Load>, rate: f64, time: Duration) -> Outcome {
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let due = Rc::new(RefCell::new(Due::default()));
    let start = Instant::now() + Duration::from_millis(50);
    let clients = (0..load.connections).map(|_| {
        let (outcome, due) = (outcome.clone(), due.clone());
        let mut client = Client::new(load);
        spawn_local(async move {
            while let Some(at) = next(&due).await {
                let done = client.once().await;
                let mut outcome = outcome.borrow_mut();
                match done {
                    Ok(()) => {
                        outcome.answered += 1;
                        outcome.latency.record(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX));
                    }
                    Err(why) => outcome.fail(why),
                }
            }
        })
    });
    let pace = async {
        let gap = 1.0 / rate;
        let total = (rate * time.as_secs_f64()) as u64;
        for number in 0..total {
            let at = start + Duration::from_secs_f64(number as f64 * gap);
            while Instant::now() < at {
                tokio::task::yield_now().await;
            }
            let mut due = due.borrow_mut();
            due.jobs.push_back(at);
            if let Some(idle) = due.idle.pop() {
                idle.wake();
            }
        }
        let mut due = due.borrow_mut();
        due.over = true;
        due.idle.drain(..).for_each(Waker::wake);
    };
    let patience = tokio::time::sleep(time + PATIENCE);
    tokio::select! {
        _ = async { tokio::join!(futures::future::join_all(clients), pace) } => {}
        () = patience => outcome.borrow_mut().fail(format!("no answer within {PATIENCE:?}")),
    }
    let mut outcome = outcome.take();
    outcome.elapsed = start.elapsed();
    outcome
}

async fn next(due: &RefCell<Due>) -> Option<Instant> {
    poll_fn(|context| {
        let mut due = due.borrow_mut();
        match due.jobs.pop_front() {
            Some(at) => Poll::Ready(Some(at)),
            None if due.over => Poll::Ready(None),
            None => {
                due.idle.push(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}
