//! Where lines go: standard output, a file that is reopened on request, or any writer.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Something that lines are written to.
pub(super) enum Sink {
    /// A file, by its path: what the path names may have been moved away.
    File(PathBuf, File),
    /// Anything else.
    Writer(Box<dyn Write + Send>),
}

impl Sink {
    pub(super) fn file(path: &Path) -> io::Result<Sink> {
        Ok(Sink::File(path.to_owned(), open(path)?))
    }

    /// Opens the file's path again. When that fails the old file stays in use: better lines in a rotated file than
    /// none.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Sink::File(path, file) = self {
            *file = open(path)?;
        }
        Ok(())
    }

    /// Writes all of `lines`. When it fails, the result says how many bytes were written before.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        let writer: &mut dyn Write = match self {
            Sink::File(_, file) => file,
            Sink::Writer(writer) => writer,
        };
        let mut rest = lines;
        while !rest.is_empty() {
            match writer.write(rest) {
                Ok(0) => return Err((lines.len() - rest.len(), io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((lines.len() - rest.len(), error)),
            }
        }
        writer.flush().map_err(|error| (lines.len(), error))
    }
}

/// Opens for appending; readable by the owner and the group, as logs name people's habits.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
