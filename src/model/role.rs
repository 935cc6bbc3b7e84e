//! What the holder of an admin token may do.

use std::fmt;

/// A role at the admin address. Each may do what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Looks.
    Viewer,
    /// Takes things back and starts them afresh: limits, grants, tokens, caches, the config.
    Operator,
    /// Everything, the kill switch of payments too.
    Admin,
}

impl Role {
    /// Every role, the smallest first.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Admin];

    /// The name in the tokens file, in answers and in audit lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_roles_are_ordered() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!((Role::parse("Admin"), Role::parse("")), (None, None));
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }
}
