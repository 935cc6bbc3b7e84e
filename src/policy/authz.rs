//! Does this caller hold the scopes that the route asks for?
//!
//! Each of a route's sets asks for any one of its scopes; a config's row adds sets and never takes one away. Callers
//! without scopes of their own (a Matrix user, a merchant's client, the homeserver) prove their right by who they
//! are, so scopes are asked of TEP tokens only (protocol section 1, column "Scope").

use crate::error::{Challenge, Code, Refusal};
use crate::model::ScopeSet;

/// Refuses with 403 INVALID_SCOPE, naming what is missing, unless `held` satisfies every set of `required`.
pub fn check(required: &[ScopeSet], held: ScopeSet) -> Result<(), Refusal> {
    match required.iter().find(|any_of| !held.intersects(**any_of)) {
        None => Ok(()),
        Some(missing) => Err(lacking(*missing, held)),
    }
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
    use super::*;
    use crate::model::Scope;

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
}
