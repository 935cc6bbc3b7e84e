//! The data folder: whose it is, and which edge serves from it.
//!
//! Whoever can write there can take over the edge, and two edges that know nothing of each other would both sweep,
//! deliver and sign from one set of books. So a folder of somebody else's is refused, and a running edge
//! holds a lock on it. Its successor in an upgrade is given the very same lock over the upgrade socket, so there is no
//! instant at which nobody holds it. Commands take no lock: the file itself keeps their writes apart from the edge's.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

const LOCK_NAME: &str = "edge.lock";

/// Makes the folder when it is missing, and makes sure that it is ours alone to write to.
///
/// # Errors
/// What is wrong with it and how to set it right, for a person.
pub fn prepare(folder: &Path) -> Result<(), String> {
    let told = |error: io::Error| format!("store.path {}: {error}", folder.display());
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(told)?;
    let meta = fs::metadata(folder).map_err(told)?;
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != us {
        let owner = meta.uid();
        return Err(format!(
            "store.path {} belongs to user {owner}, and this process runs as user {us}: run it as that user, or give the \
             folder to this one",
            folder.display()
        ));
    }
    if meta.mode() & 0o022 != 0 {
        let mode = meta.mode() & 0o777;
        return Err(format!(
            "store.path {} may be written to by others (mode {mode:03o}): chmod 0700 it",
            folder.display()
        ));
    }
    Ok(())
}

/// A running edge's hold on its data folder, for as long as this (or a copy in another process) is open.
#[derive(Debug)]
pub struct ServiceLock(File);

impl ServiceLock {
    /// Takes hold of a folder that [`prepare`] has looked at.
    ///
    /// # Errors
    /// When another edge holds it, or the lock file cannot be made; for a person.
    pub fn take(folder: &Path) -> Result<ServiceLock, String> {
        let told = |error: io::Error| format!("store.path {}: {LOCK_NAME}: {error}", folder.display());
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(folder.join(LOCK_NAME))
            .map_err(told)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.take(20).read_to_string(&mut holder).map_err(told)?;
                return Err(format!(
                    "store.path {}: another edge serves from this folder (process {}). Stop it first, or replace it \
                     with `run --upgrade`",
                    folder.display(),
                    holder.trim()
                ));
            }
            Err(TryLockError::Error(error)) => return Err(told(error)),
        }
        write_holder(&mut file).map_err(told)?;
        Ok(ServiceLock(file))
    }

    /// The lock that the predecessor in an upgrade has handed on. It is `None` when it is not this folder's: the
    /// config names another one now.
    ///
    /// # Errors
    /// When the lock file cannot be looked at; for a person.
    pub fn handed_on(folder: &Path, lock: OwnedFd) -> Result<Option<ServiceLock>, String> {
        let told = |error: io::Error| format!("store.path {}: {LOCK_NAME}: {error}", folder.display());
        let mut file = File::from(lock);
        let (theirs, ours) = (file.metadata().map_err(told)?, fs::metadata(folder.join(LOCK_NAME)).map_err(told)?);
        if (theirs.dev(), theirs.ino()) != (ours.dev(), ours.ino()) {
            return Ok(None);
        }
        write_holder(&mut file).map_err(told)?;
        Ok(Some(ServiceLock(file)))
    }
}

impl AsFd for ServiceLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Who holds the lock, for the message to whoever is refused.
fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_is_made_private_and_one_open_to_others_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        prepare(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        for mode in [0o770, 0o702, 0o777] {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            assert!(prepare(&folder).unwrap_err().contains("chmod 0700"), "{mode:o}");
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        prepare(&folder).unwrap();
    }

    #[test]
    fn one_edge_serves_from_a_folder_and_hands_its_hold_on() {
        let folder = tempfile::tempdir().unwrap();
        let first = ServiceLock::take(folder.path()).unwrap();
        let refused = ServiceLock::take(folder.path()).unwrap_err();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        let copy = first.as_fd().try_clone_to_owned().unwrap();
        let second = ServiceLock::handed_on(folder.path(), copy).unwrap().unwrap();
        drop(first);
        ServiceLock::take(folder.path()).unwrap_err();
        drop(second);
        let third = ServiceLock::take(folder.path()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let _other = ServiceLock::take(elsewhere.path()).unwrap();
        let copy = third.as_fd().try_clone_to_owned().unwrap();
        assert!(ServiceLock::handed_on(elsewhere.path(), copy).unwrap().is_none());
    }
}
