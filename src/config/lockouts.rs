//! `lockouts` (protocol sections 8 and 9): who is kept out, after what, and for how long.

use std::time::Duration;

use super::map::Map;
use super::types::{Lockout, Lockouts};
use super::units::show_duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30 * 86_400);
/// Each strike is remembered by itself.
const MOST_STRIKES: u64 = 100;

/// Reads `lockouts`. What is not written is off; what is left out below a key that is written is the protocol's.
pub(super) fn read(m: &mut Map<'_>) -> Lockouts {
    let suspension = Lockout { strikes: 10, within: HOUR, lasts: HOUR };
    let lock = Lockout { strikes: 5, within: 5 * MINUTE, lasts: 15 * MINUTE };
    Lockouts {
        account_suspension: lockout(m, "account_suspension", "violations", suspension),
        payment_lock: lockout(m, "payment_lock", "failures", lock),
    }
}

fn lockout(m: &mut Map<'_>, key: &'static str, strikes: &'static str, default: Lockout) -> Option<Lockout> {
    m.optional(key, |value| {
        value.map(&format!("a map with {strikes}, within and lasts"), |m| {
            let count = m.or(strikes, default.strikes, |v| v.whole(1..=MOST_STRIKES));
            let within = m.or("within", default.within, |v| v.duration(SHORTEST..=LONGEST));
            // A longer window than the default asks for a longer lock, too, unless that is written.
            let lasts = m.or("lasts", default.lasts.max(within), |v| v.duration(SHORTEST..=LONGEST));
            if lasts < within {
                return m.whole().refuse(
                    format!(
                        "ends after {}, while strikes of the last {} still count",
                        show_duration(lasts),
                        show_duration(within)
                    ),
                    "lasts to be at least within",
                );
            }
            Some(Lockout { strikes: count, within, lasts })
        })?
    })
}
