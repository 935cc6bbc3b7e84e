//! How the loader reaches files: through a trait, so that tests and fuzzing need no disk.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Opens what a config names.
pub trait Opener {
    /// The content of a file.
    ///
    /// # Errors
    /// Those of reading; a file of more than `limit` bytes is `FileTooLarge`.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;

    /// The paths in a folder, in any order.
    ///
    /// # Errors
    /// Those of listing.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Opener for Disk {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        std::fs::File::open(path)?.take(cap).read_to_end(&mut content)?;
        bounded(content, limit)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }
}

/// Files held in memory, by the very path that the config leads to.
#[derive(Clone, Debug, Default)]
pub struct InMemory(pub BTreeMap<PathBuf, Vec<u8>>);

impl InMemory {
    /// Adds a file.
    #[must_use]
    pub fn with(mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.0.insert(path.into(), content.into());
        self
    }
}

impl Opener for InMemory {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        bounded(self.0.get(path).cloned().ok_or(io::ErrorKind::NotFound)?, limit)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let files: Vec<_> = self.0.keys().filter(|path| path.parent() == Some(folder)).cloned().collect();
        if files.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(files) }
    }
}

fn bounded(content: Vec<u8>, limit: usize) -> io::Result<Vec<u8>> {
    if content.len() > limit { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(content) }
}
