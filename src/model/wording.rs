//! What a user is asked before a mini-app may do something (protocol section 3, "Consent data"), in words for people.

use super::scope::Sensitivity;
use super::{Scope, ScopeSet};

impl Sensitivity {
    /// The name in the consent data.
    pub const fn as_str(self) -> &'static str {
        match self {
            Sensitivity::Low => "low",
            Sensitivity::Medium => "medium",
            Sensitivity::High => "high",
            Sensitivity::Critical => "critical",
        }
    }
}

/// What a scope allows, as the end of the sentence "The mini-app may …".
pub const fn description(scope: Scope) -> &'static str {
    match scope {
        Scope::UserRead => "see your Matrix ID, name and picture",
        Scope::UserReadExtended => "see the rest of your profile",
        Scope::UserReadContacts => "see who your contacts are",
        Scope::WalletBalance => "see your balance and your limits",
        Scope::WalletHistory => "see your past payments",
        Scope::WalletRequest => "ask others for money in your name",
        Scope::WalletPay => "start payments from your wallet",
        Scope::MessagingSend => "send messages to your rooms",
        Scope::MessagingRead => "read messages in rooms that it has joined",
        Scope::RoomCreate => "create rooms in your name",
        Scope::RoomInvite => "invite people to your rooms",
        Scope::StorageRead => "read what it has stored for you",
        Scope::StorageWrite => "store its own data for you",
        Scope::WebhookSend => "be told when something changes for you",
        Scope::SystemNotifications => "show you system notifications",
        Scope::WalletAdmin => "manage your wallet",
        Scope::MessagingBroadcast => "send messages to many people at once",
        Scope::AnalyticsDetailed => "see in detail how you use it",
    }
}

/// What should be known beside, if anything.
pub const fn note(scope: Scope) -> Option<&'static str> {
    match scope {
        Scope::WalletPay => Some("You confirm every payment yourself before money moves."),
        Scope::WalletRequest => Some("Nobody has to pay: each of them decides."),
        Scope::StorageRead | Scope::StorageWrite => Some("Every mini-app may do this."),
        Scope::WalletAdmin => Some("Only mini-apps of the platform itself can have this."),
        _ => None,
    }
}

/// Which of the requested scopes nobody has to be asked about: `storage:*`, what the user has approved before, and the
/// basic scopes that an official mini-app has without asking.
pub fn unasked(requested: ScopeSet, approved: ScopeSet, preapproved: ScopeSet) -> ScopeSet {
    requested.intersection(ScopeSet::UNASKED.union(approved).union(preapproved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_asked_about() {
        let requested = ScopeSet::from_list("user:read wallet:balance wallet:pay storage:read");
        let of = ScopeSet::from_list;
        assert_eq!(unasked(requested, ScopeSet::EMPTY, ScopeSet::EMPTY), of("storage:read"));
        assert_eq!(
            unasked(requested, of("wallet:balance wallet:history"), of("user:read")),
            of("user:read wallet:balance storage:read")
        );
    }

    #[test]
    fn descriptions_end_a_sentence() {
        for scope in Scope::ALL {
            let text = description(*scope);
            assert!(text.starts_with(|first: char| first.is_ascii_lowercase()) && !text.ends_with('.'), "{text}");
            assert!(note(*scope).is_none_or(|note| note.ends_with('.')));
        }
    }
}
