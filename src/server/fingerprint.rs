//! Whether files changed: what can be told without reading them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// State of a list of files: length, time of last change and inode of each; a missing file is a state too. Follows
/// symbolic links, so that a link that is switched counts as a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Option<(u64, i64, i64, u64)>>);

impl Fingerprint {
    pub(super) fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let one = |path: P| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino()))
        };
        Fingerprint(paths.into_iter().map(one).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_writing_replacing_and_removing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        let missing = Fingerprint::of([&file]);
        fs::write(&file, "1").unwrap();
        let written = Fingerprint::of([&file]);
        assert_ne!(missing, written);
        assert_eq!(written, Fingerprint::of([&file]));
        let other = dir.path().join("b");
        fs::write(&other, "2").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_ne!(written, Fingerprint::of([&file]));
        fs::remove_file(&file).unwrap();
        assert_eq!(missing, Fingerprint::of([&file]));
    }
}
