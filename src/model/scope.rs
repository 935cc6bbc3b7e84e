//! Scopes (protocol section 5): a closed list, held as a bit set so that checking one is a machine instruction.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How much harm a scope can do (protocol section 5); the consent screen shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sensitivity {
    /// Harmless; granted to every mini-app or shown as a formality.
    Low,
    /// Shown at consent.
    Medium,
    /// Shown with emphasis at consent.
    High,
    /// Moves money or reaches everybody.
    Critical,
}

macro_rules! scopes {
    ($($variant:ident $text:literal $sensitivity:ident $official:literal,)*) => {
        /// One permission that a user gives to a mini-app.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "each variant is named after its text form, protocol section 5")]
        pub enum Scope { $($variant,)* }

        impl Scope {
            /// Every scope, in the protocol's order.
            pub const ALL: &'static [Scope] = &[$(Scope::$variant,)*];

            /// The text form, such as `wallet:balance`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Scope::$variant => $text,)* }
            }

            /// The protocol's sensitivity class.
            pub const fn sensitivity(self) -> Sensitivity {
                match self { $(Scope::$variant => Sensitivity::$sensitivity,)* }
            }

            /// Whether only official mini-apps may hold it.
            pub const fn official_only(self) -> bool {
                match self { $(Scope::$variant => $official,)* }
            }

            /// The scope of that name, if there is one.
            pub fn parse(text: &str) -> Option<Scope> {
                match text { $($text => Some(Scope::$variant),)* _ => None }
            }
        }
    };
}

scopes! {
    UserRead "user:read" Low false,
    UserReadExtended "user:read:extended" Medium false,
    UserReadContacts "user:read:contacts" High false,
    WalletBalance "wallet:balance" High false,
    WalletHistory "wallet:history" High false,
    WalletRequest "wallet:request" High false,
    WalletPay "wallet:pay" Critical false,
    MessagingSend "messaging:send" High false,
    MessagingRead "messaging:read" High false,
    RoomCreate "room:create" High false,
    RoomInvite "room:invite" High false,
    StorageRead "storage:read" Low false,
    StorageWrite "storage:write" Low false,
    WebhookSend "webhook:send" Medium false,
    SystemNotifications "system:notifications" Critical true,
    WalletAdmin "wallet:admin" Critical true,
    MessagingBroadcast "messaging:broadcast" Critical true,
    AnalyticsDetailed "analytics:detailed" Critical true,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ScopeSet(u32);

impl From<String> for ScopeSet {
    fn from(list: String) -> ScopeSet {
        ScopeSet::from_list(&list)
    }
}

impl From<ScopeSet> for String {
    fn from(set: ScopeSet) -> String {
        set.to_string()
    }
}

impl ScopeSet {
    /// No scope at all.
    pub const EMPTY: ScopeSet = ScopeSet(0);

    /// The set of the given scopes.
    pub const fn of(scopes: &[Scope]) -> ScopeSet {
        let (mut bits, mut rest) = (0u32, scopes);
        while let [first, others @ ..] = rest {
            bits |= 1 << (*first as u8);
            rest = others;
        }
        ScopeSet(bits)
    }

    /// What every mini-app may use without asking: low sensitivity, no approval (protocol section 5).
    pub const UNASKED: ScopeSet = ScopeSet::of(&[Scope::StorageRead, Scope::StorageWrite]);

    /// What reaches a wallet.
    pub const WALLET: ScopeSet = ScopeSet::of(&[
        Scope::WalletBalance,
        Scope::WalletHistory,
        Scope::WalletRequest,
        Scope::WalletPay,
        Scope::WalletAdmin,
    ]);

    /// Reads a space-separated list (RFC 6749 section 3.3). Names that we do not know are left out: a token of a
    /// later protocol revision must stay usable for what we do know.
    pub fn from_list(text: &str) -> ScopeSet {
        text.split(' ').filter_map(Scope::parse).collect()
    }

    /// Whether `scope` is in the set.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << (scope as u8)) != 0
    }

    /// Scopes in both sets.
    pub const fn intersection(self, other: ScopeSet) -> ScopeSet {
        ScopeSet(self.0 & other.0)
    }

    /// Scopes in either set.
    pub const fn union(self, other: ScopeSet) -> ScopeSet {
        ScopeSet(self.0 | other.0)
    }

    /// Scopes of this set that `other` lacks.
    pub const fn difference(self, other: ScopeSet) -> ScopeSet {
        ScopeSet(self.0 & !other.0)
    }

    /// Whether the two sets share a scope.
    pub const fn intersects(self, other: ScopeSet) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every scope of `other` is in this set.
    pub const fn is_superset(self, other: ScopeSet) -> bool {
        other.0 & !self.0 == 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes of the set in the protocol's order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> ScopeSet {
        scopes.into_iter().fold(ScopeSet::EMPTY, |set, scope| ScopeSet(set.0 | 1 << (scope as u8)))
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, scope) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeSet({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_scope_reads_back() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(*scope));
        }
    }

    proptest! {
        #[test]
        fn a_set_reads_back_from_its_text(bits in 0u32..(1 << 18)) {
            let set = ScopeSet(bits);
            prop_assert_eq!(ScopeSet::from_list(&set.to_string()), set);
        }

        #[test]
        fn a_list_holds_what_it_names(list in "((user|wallet|storage):(read|balance|pay|everything)| |  |,|\\PC){0,12}") {
            let set = ScopeSet::from_list(&list);
            for scope in Scope::ALL {
                prop_assert_eq!(set.contains(*scope), list.split(' ').any(|name| name == scope.as_str()));
            }
        }
    }
}
