//! A secret: read from a file or the environment, wiped when dropped, never printed.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A secret value. Its `Debug` form says nothing, and it has no `Display`.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes hold of a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Arc::new(Zeroizing::new(text.into())))
    }

    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in constant time, as far as the lengths are equal.
    pub fn matches(&self, candidate: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), candidate).is_ok()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.matches(other.expose().as_bytes())
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::new("whsec_demo");
        assert!(!format!("{secret:?}").contains("demo"));
        assert!(secret.matches(b"whsec_demo") && !secret.matches(b"whsec_dem0") && !secret.matches(b"whsec"));
    }
}
