//! What a script is told of a bucket, and what it answers.

use redis::Value;

use super::super::key::LimitKey;
use super::super::policies::{Family, Policy};
use super::super::rule::{Rule, Wait};
use super::Marked;
use super::hold::{Back, LEASE, Told};
use crate::clock::Tick;
use crate::store::StoreError;

/// A policy's numbers as its script takes them.
///
/// A bucket counts time in microseconds and parts of one: a token takes `whole` and `part / rate` of them. Products stay
/// below 2^53, which is what Lua counts exactly to, for any limit that a config can name (10 million per day).
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub kind: Kind,
    whole: u64,
    part: u64,
    rate: u64,
    capacity: u64,
}

/// Microseconds that nothing is out for: far beyond any refill, and exact in Lua.
const LATEST: u64 = 1 << 52;

/// What goes with the calls of one question.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    /// Tokens to lease.
    pub wish: u32,
    /// Tokens that go back.
    pub back: Back,
    /// Nothing is taken.
    pub looks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bucket,
    Window,
}

impl Question {
    pub fn new(policy: &Policy) -> Question {
        let capacity = u64::from(policy.requests) + u64::from(policy.burst);
        match policy.rule {
            Rule::TokenBucket(_) => {
                let rate = u64::from(policy.requests);
                let micros = u64::try_from(policy.per.as_micros()).unwrap_or(u64::MAX);
                Question { kind: Kind::Bucket, whole: micros / rate, part: micros % rate, rate, capacity }
            }
            Rule::SlidingWindow(_) => {
                let millis = u64::try_from(policy.per.as_millis()).unwrap_or(u64::MAX);
                Question { kind: Kind::Window, whole: millis, part: 0, rate: 1, capacity }
            }
        }
    }

    /// The script's arguments.
    pub fn args(&self, terms: Terms, costs: &[u32], now: Tick) -> Vec<String> {
        let Terms { wish, back, looks } = terms;
        let out = now.since(back.origin.asked);
        let when = match self.kind {
            Kind::Bucket => u64::try_from(out.saturating_sub(LEASE).as_micros()).unwrap_or(u64::MAX).min(LATEST),
            Kind::Window => back.origin.window,
        };
        let own = [self.whole, self.part, self.rate, self.capacity];
        let numbers = own.into_iter().chain([back.tokens.into(), when, wish.into(), looks.into()]);
        numbers.map(|number: u64| number.to_string()).chain(costs.iter().map(u32::to_string)).collect()
    }
}

/// The bucket's key in Redis: a hash tag of its own, so that buckets spread over a cluster.
pub(super) fn name(family: Family, key: LimitKey) -> String {
    format!("tmcp:{{limit:{:016x}:{}}}", family.0, key.hex())
}

/// Reads what a script says of a mark.
///
/// # Errors
/// When it is not what our script says.
pub(super) fn marked(value: Value) -> Result<Marked, StoreError> {
    let other = |_| StoreError::Malformed("a mark's script answered something else".to_owned());
    let (new, micros): (bool, u64) = redis::from_redis_value(value).map_err(other)?;
    let wait = if micros == 0 { Wait::No } else { Wait::Nanos(micros.saturating_mul(1000)) };
    Ok(Marked { new, wait })
}

/// Reads a script's answer to `calls` calls.
///
/// # Errors
/// When it is not what our scripts say.
pub(super) fn told(value: Value, calls: usize) -> Result<Told, StoreError> {
    let other = || StoreError::Malformed("a limit's script answered something else".to_owned());
    let numbers: Vec<i64> = redis::from_redis_value(value).map_err(|_| other())?;
    let Some(([leased, left, full_in, window], waits)) = numbers.split_first_chunk::<4>() else { return Err(other()) };
    if waits.len() != calls {
        return Err(other());
    }
    let nanos = |micros: i64| u64::try_from(micros).unwrap_or(0).saturating_mul(1000);
    let wait = |wait: &i64| match *wait {
        0 => Wait::No,
        micros if micros > 0 => Wait::Nanos(nanos(micros)),
        _ => Wait::Never,
    };
    Ok(Told {
        leased: u32::try_from(*leased).map_err(|_| other())?,
        left: u32::try_from(*left).map_err(|_| other())?,
        full_in: nanos(*full_in),
        window: u64::try_from(*window).unwrap_or(0),
        waits: waits.iter().map(wait).collect(),
    })
}
