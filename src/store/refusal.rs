//! What a caller is told when the store fails.

use super::StoreError;
use crate::error::{Code, Refusal};

/// Seconds after which asking again makes sense: a fail-over, or a disk that is being cleared, takes about that long.
const RETRY_AFTER: u64 = 5;

impl From<StoreError> for Refusal {
    /// 503 for what passes, 500 for what does not, 400 for a cursor that the caller made up.
    fn from(error: StoreError) -> Refusal {
        let inside = error.to_string();
        match error {
            StoreError::Unavailable(_) | StoreError::NotDurable(_) | StoreError::Full(_) => {
                Refusal::new(Code::ServiceUnavailable, "What is remembered cannot be reached at the moment. Try again.")
                    .retry_after(RETRY_AFTER)
                    .inside(inside)
            }
            StoreError::NoSuchCursor => Refusal::new(
                Code::ValidationFailed,
                "cursor is none that an answer here gave. Begin again without one.",
            ),
            StoreError::Malformed(_) | StoreError::Internal(_) => Refusal::internal(inside),
        }
    }
}
