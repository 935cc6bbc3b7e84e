//! What redb says, as what the store's callers have to know.

use std::io::ErrorKind;

use super::super::backend::StoreError;

/// The store's word for an error of redb.
pub(super) fn fault(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => match error.kind() {
            ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied => StoreError::Full(error.to_string()),
            _ => StoreError::Unavailable(error.to_string()),
        },
        redb::Error::PreviousIo => StoreError::Unavailable("it has to be opened again after an I/O error".to_owned()),
        error @ (redb::Error::Corrupted(_)
        | redb::Error::UpgradeRequired(_)
        | redb::Error::TableTypeMismatch { .. }) => StoreError::Malformed(error.to_string()),
        error => StoreError::Internal(error.to_string()),
    }
}
