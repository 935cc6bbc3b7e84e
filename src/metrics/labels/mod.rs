//! Closed sets of label values. Each value has a dense number, so that counting is an array access.
//!
//! | file | values of |
//! |---|---|
//! | `checks` | what a request's checks find |
//! | `oauth` | the OAuth server, and what is revoked |
//! | `store` | the store and Redis |
//! | `upstream` | the services behind |
//! | `edge` | the edge itself |

use crate::model::rows::Class;
use crate::model::{Operation, Scope};

/// A closed set of values of one label.
pub trait Label: Copy + 'static {
    /// The label values, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// Place in [`Label::ALL`].
    fn index(self) -> usize;

    /// The value as it stands in the exposition.
    fn name(self) -> &'static str;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $set:ident { $($(#[$item:meta])* $variant:ident $name:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $set { $($(#[$item])* $variant,)* }

        impl Label for $set {
            const ALL: &'static [Self] = &[$($set::$variant,)*];
            fn index(self) -> usize { self as usize }
            fn name(self) -> &'static str {
                match self { $($set::$variant => $name,)* }
            }
        }
    )*};
}

macro_rules! model_labels {
    ($($set:ident)*) => {$(
        impl Label for $set {
            const ALL: &'static [Self] = $set::ALL;
            fn index(self) -> usize { self as usize }
            fn name(self) -> &'static str { self.as_str() }
        }
    )*};
}

model_labels! { Operation Scope Class }

mod checks;
mod edge;
mod oauth;
mod store;
mod upstream;

pub use checks::*;
pub use edge::*;
pub use oauth::*;
pub use store::*;
pub use upstream::*;

#[cfg(test)]
mod tests {
    use super::*;

    fn dense<L: Label>() {
        for (at, label) in L::ALL.iter().enumerate() {
            assert_eq!(label.index(), at, "{}", label.name());
        }
    }

    #[test]
    fn numbers_are_dense() {
        dense::<Operation>();
        dense::<Scope>();
        dense::<Class>();
        dense::<StatusClass>();
        dense::<TokenResult>();
        dense::<ConnectionRefusal>();
    }

    #[test]
    fn status_classes() {
        let of = |status| StatusClass::of(status).name();
        assert_eq!([of(0), of(101), of(200), of(304), of(429), of(503)], ["none", "1xx", "2xx", "3xx", "4xx", "5xx"]);
    }
}
