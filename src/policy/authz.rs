//! Does this caller hold the scopes that the route asks for?
//!
//! Each of a route's sets asks for any one of its scopes; a config's row adds sets and never takes one away. Callers
//! without scopes of their own (a Matrix user, a merchant's client, the homeserver) prove their right by who they
//! are, so scopes are asked of TEP tokens only (protocol section 1, column "Scope").

use super::authn::Revocations;
use super::route::Route;
use crate::clock::Tick;
use crate::error::{Challenge, Code, Refusal};
use crate::model::ScopeSet;
use crate::model::rows::Class;

/// Refuses with 403 INVALID_SCOPE, naming what is missing, unless `held` satisfies every set of `required`.
pub fn check(required: &[ScopeSet], held: ScopeSet) -> Result<(), Refusal> {
    match required.iter().find(|any_of| !held.intersects(**any_of)) {
        None => Ok(()),
        Some(missing) => Err(lacking(*missing, held)),
    }
}

/// Refuses payments while an operator has called them off, and, while this instance cannot know what has been revoked or
/// called off, payments and whatever takes a wallet scope: what is void elsewhere must not move money here.
///
/// # Errors
/// 503 `SERVICE_UNAVAILABLE` with `Retry-After`.
pub fn money(route: &Route, by_token: bool, revocations: &Revocations, now: Tick) -> Result<(), Refusal> {
    if route.class == Class::Payment && revocations.payments_off() {
        return Err(Refusal::new(Code::ServiceUnavailable, "Payments are switched off at present.").retry_after(60));
    }
    let reaches_wallet = by_token && route.scopes.iter().any(|set| set.intersects(ScopeSet::WALLET));
    if (route.class == Class::Payment || reaches_wallet) && !revocations.is_current(now) {
        return Err(Refusal::new(Code::ServiceUnavailable, "Wallet calls are not taken at present.")
            .retry_after(1)
            .inside("the log of revocations has not been seen for more than a second"));
    }
    Ok(())
}

fn lacking(any_of: ScopeSet, held: ScopeSet) -> Refusal {
    let names: Vec<&str> = any_of.iter().map(|scope| scope.as_str()).collect();
    let granted: Vec<&str> = held.iter().map(|scope| scope.as_str()).collect();
    Refusal::new(Code::InvalidScope, format!("The token lacks the scope {}.", names.join(" or ")))
        .details(serde_json::json!({"required_any_of": names, "granted": granted}))
        .challenge(Challenge::BearerScope)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::model::rows::ROWS;
    use crate::model::{Revocation, Revoked, Scope};
    use crate::policy::authn::Generation;
    use crate::policy::authn::revocations::STALE_AFTER;
    use crate::policy::route::built_in;

    #[test]
    fn every_set_needs_one_scope() {
        let balance = ScopeSet::of(&[Scope::WalletBalance]);
        let either = ScopeSet::of(&[Scope::WalletBalance, Scope::WalletPay]);
        let pay = ScopeSet::of(&[Scope::WalletPay]);
        assert!(check(&[], ScopeSet::EMPTY).is_ok());
        assert!(check(&[either], pay).is_ok());
        assert!(check(&[balance, either], balance).is_ok());
        let refusal = check(&[balance, either], pay).unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidScope);
        assert!(refusal.message().contains("wallet:balance"), "{refusal}");
    }

    #[test]
    fn money_waits_for_what_may_have_been_revoked() {
        let (clock, time) = Clock::manual(1_800_000_000);
        let generation = Generation::default();
        let revocations = Revocations::new(generation);
        revocations.agree(1, clock.tick());
        let judge = |class: Class, by_token: bool| {
            let row = ROWS.iter().find(|row| row.class == class).unwrap();
            money(&built_in(row), by_token, &revocations, clock.tick()).map_err(|refusal| refusal.code())
        };
        let unavailable = Err(Code::ServiceUnavailable);
        assert_eq!(judge(Class::Payment, false), Ok(()));
        time.advance(STALE_AFTER + Duration::from_millis(1));
        // Without a token, too: whether payments are called off is not known either.
        assert_eq!(judge(Class::Payment, false), unavailable);
        assert_eq!(judge(Class::Payment, true), unavailable);
        assert_eq!(judge(Class::Read, true), unavailable);
        assert_eq!(judge(Class::Other, true), Ok(()), "what reaches no wallet goes on");
        revocations.agree(1, clock.tick());
        assert_eq!(judge(Class::Payment, true), Ok(()));
        revocations.apply(&Revocation { number: 2, at: 1_800_000_001, what: Revoked::Payments { off: true } });
        assert_eq!(judge(Class::Payment, false), unavailable);
        assert_eq!(judge(Class::Read, true), Ok(()));
    }
}
