//! A decision in the caller's words: the `X-RateLimit-*` headers, and the 429 (protocol section 8).
//!
//! Of what is left, `X-RateLimit-Remaining` shows what is above the burst and `-Burst-Remaining` the rest: a client sees
//! `Limit` count down to 0 and then draws on the burst, and one that paces itself by `Remaining` alone never
//! meets a refusal.

use std::borrow::Cow;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::engine::Charge;
use super::policies::PolicyId;
use super::rule::{Standing, Wait};
use crate::error::{Code, Refusal};

/// How the caller stands with the limit that presses it most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which policy; its name is for metrics and logs.
    pub policy: PolicyId,
    /// Tokens refilled in `per`: `X-RateLimit-Limit`.
    pub limit: u32,
    /// The period of `limit`.
    pub per: Duration,
    /// Tokens on top of `limit`: `X-RateLimit-Burst`.
    pub burst: u32,
    /// Tokens left above the burst: `X-RateLimit-Remaining`. At least so many calls succeed at once.
    pub remaining: u32,
    /// Tokens left of the burst: `X-RateLimit-Burst-Remaining`.
    pub burst_remaining: u32,
    /// Seconds until everything is available again, rounded up: `X-RateLimit-Reset-After`.
    pub reset_after: u64,
    /// The same as seconds since the Unix epoch: `X-RateLimit-Reset`.
    pub reset_unix: u64,
    /// Tokens that the call asked for.
    pub cost: u32,
    /// Seconds after which the call succeeds, rounded up: `Retry-After` of a refusal. `None`: it never will, because it
    /// asks for more than the limit ever holds.
    pub retry_after: Option<u64>,
    /// A report-only policy that would have refused the call.
    pub would_refuse: Option<PolicyId>,
}

static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
static RESET_AFTER: HeaderName = HeaderName::from_static("x-ratelimit-reset-after");
static BURST: HeaderName = HeaderName::from_static("x-ratelimit-burst");
static BURST_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-burst-remaining");

impl Report {
    pub(super) fn new(
        policy: PolicyId,
        charge: &Charge<'_>,
        standing: &Standing,
        unix_secs: u64,
        would_refuse: Option<PolicyId>,
    ) -> Self {
        let burst_remaining = standing.remaining.min(charge.policy.burst);
        let reset_after = whole_seconds(standing.full_in);
        Report {
            policy,
            limit: charge.policy.requests,
            per: charge.policy.per,
            burst: charge.policy.burst,
            remaining: standing.remaining - burst_remaining,
            burst_remaining,
            reset_after,
            reset_unix: unix_secs.saturating_add(reset_after),
            cost: charge.cost,
            retry_after: match standing.wait {
                Wait::No => Some(0),
                Wait::Nanos(nanos) => Some(whole_seconds(nanos).max(1)),
                Wait::Never => None,
            },
            would_refuse,
        }
    }

    /// Hands every `X-RateLimit-*` header to `set`.
    pub fn write(&self, set: &mut impl FnMut(HeaderName, HeaderValue)) {
        set(LIMIT.clone(), number(u64::from(self.limit)));
        set(REMAINING.clone(), number(u64::from(self.remaining)));
        set(RESET.clone(), number(self.reset_unix));
        set(RESET_AFTER.clone(), number(self.reset_after));
        set(BURST.clone(), number(u64::from(self.burst)));
        set(BURST_REMAINING.clone(), number(u64::from(self.burst_remaining)));
    }

    /// The 429 for a call that is refused. It leaves the `X-RateLimit-*` headers to [`Report::write`], which goes
    /// with every limited answer.
    pub fn refusal(&self) -> Refusal {
        let window = window_text(self.per);
        let refusal = match self.retry_after {
            Some(seconds) => over(self.limit, &window, seconds),
            None => Refusal::new(
                Code::RateLimitExceeded,
                format!(
                    "This call counts as {} requests, and the limit never allows more than {} at once. Split it.",
                    self.cost,
                    u64::from(self.limit) + u64::from(self.burst)
                ),
            ),
        };
        refusal.field("limit", self.limit).field("window", window.into_owned())
    }
}

fn over(limit: u32, window: &str, seconds: u64) -> Refusal {
    let plural = if seconds == 1 { "" } else { "s" };
    let message =
        format!("The limit of {limit} requests per {window} is used up. Try again in {seconds} second{plural}.");
    Refusal::new(Code::RateLimitExceeded, message.replacen("per 1 ", "per ", 1)).retry_after(seconds)
}

fn whole_seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

/// A period as people say it: `1 minute`, `1 day`, `90 seconds`.
pub fn window_text(per: Duration) -> Cow<'static, str> {
    let seconds = per.as_secs();
    if per.subsec_nanos() != 0 {
        return Cow::Owned(format!("{} milliseconds", per.as_millis()));
    }
    let (count, unit) = match seconds {
        60 => return Cow::Borrowed("1 minute"),
        86_400 => return Cow::Borrowed("1 day"),
        s if s % 86_400 == 0 => (s / 86_400, "day"),
        s if s % 3_600 == 0 => (s / 3_600, "hour"),
        s if s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    Cow::Owned(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }))
}

/// Every number below 10,000, four digits each.
static DIGITS: &str = match str::from_utf8(&DIGIT_BYTES) {
    Ok(digits) => digits,
    Err(_) => "",
};

static DIGIT_BYTES: [u8; 40_000] = {
    let mut digits = [b'0'; 40_000];
    let mut rest = digits.as_mut_slice();
    let mut number = 0_u16;
    while let Some((four, more)) = rest.split_first_chunk_mut::<4>() {
        *four = [
            b'0' + (number / 1000 % 10) as u8,
            b'0' + (number / 100 % 10) as u8,
            b'0' + (number / 10 % 10) as u8,
            b'0' + (number % 10) as u8,
        ];
        number += 1;
        rest = more;
    }
    digits
};

/// A number as a header value. Small ones, which limits mostly are, need no memory.
fn number(number: u64) -> HeaderValue {
    let lead = match number {
        0..10 => 3,
        10..100 => 2,
        100..1_000 => 1,
        _ => 0,
    };
    let at = usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(4);
    match DIGITS.get(at.saturating_add(lead)..at.saturating_add(4)) {
        Some(digits) => HeaderValue::from_static(digits),
        // The integer conversion would do, with two allocations where a copy of the digits takes one.
        None => HeaderValue::from_str(itoa::Buffer::new().format(number)).unwrap_or_else(|_| HeaderValue::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 1, 9, 10, 42, 99, 100, 999, 1000, 9999, 10_000, 10_001, 1_700_000_000, u64::MAX] {
            assert_eq!(super::number(number).to_str().unwrap(), number.to_string());
        }
    }

    #[test]
    fn periods_are_said_as_people_do() {
        let text = |seconds| window_text(Duration::from_secs(seconds)).into_owned();
        assert_eq!(text(1), "1 second");
        assert_eq!(text(60), "1 minute");
        assert_eq!(text(90), "90 seconds");
        assert_eq!(text(300), "5 minutes");
        assert_eq!(text(3_600), "1 hour");
        assert_eq!(text(86_400), "1 day");
        assert_eq!(text(172_800), "2 days");
        assert_eq!(window_text(Duration::from_millis(1500)), "1500 milliseconds");
    }
}
