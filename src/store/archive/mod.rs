//! Backup files.
//!
//! ```text
//! "tmcp-edge backup 1\n"
//! when it was taken     u64, seconds since the Unix epoch
//! record …              kind u8, length u32, body
//! end                   kind 0, length u32 = 40, number of records u64, SHA-256 of everything before this record
//! ```
//!
//! All numbers are big-endian. It is written and read as a stream, so a store of any size fits. A file that was cut short
//! has no end, and one that was changed has another digest; a reader is told of both before anything is restored,
//! since [`Reader`] is run to the end once to look and once to work.

mod record;

use std::fmt;
use std::io::{self, Read, Write};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::backend::Record;

const MAGIC: &[u8; 19] = b"tmcp-edge backup 1\n";
const END: u8 = 0;
const END_LEN: usize = 8 + SHA256_OUTPUT_LEN;
/// Longer than any record the edge writes; a longer one means that the file is damaged.
const MOST_BYTES: usize = 64 << 20;

/// Why a backup file cannot be written or read.
#[derive(Debug)]
pub enum ArchiveError {
    /// The system refused.
    Io(io::Error),
    /// It does not begin as a backup of this format does.
    NotABackup,
    /// It ends before its end.
    CutShort,
    /// What it says is no record, or not what was written.
    Damaged(&'static str),
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchiveError::Io(error) => write!(f, "{error}"),
            ArchiveError::NotABackup => f.write_str("it is no backup, or one of a later release"),
            ArchiveError::CutShort => f.write_str("it ends early: the backup was not finished, or not copied whole"),
            ArchiveError::Damaged(what) => write!(f, "it is damaged: {what}"),
        }
    }
}

impl std::error::Error for ArchiveError {}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> ArchiveError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => ArchiveError::CutShort,
            _ => ArchiveError::Io(error),
        }
    }
}

/// Writes a backup.
pub struct Writer<W> {
    to: W,
    digest: Context,
    records: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a backup that was taken at `taken`, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn begin(to: W, taken: u64) -> Result<Writer<W>, ArchiveError> {
        let mut writer = Writer { to, digest: Context::new(&SHA256), records: 0 };
        writer.put(MAGIC)?;
        writer.put(&taken.to_be_bytes())?;
        Ok(writer)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`ArchiveError::Io`], and [`ArchiveError::Damaged`] for a record that is too long to be read again.
    pub fn add(&mut self, record: &Record) -> Result<(), ArchiveError> {
        let (kind, body) = record::encode(record).filter(|(_, body)| body.len() <= MOST_BYTES).ok_or(TOO_LONG)?;
        self.put(&[kind])?;
        self.put(&u32::try_from(body.len()).map_err(|_| TOO_LONG)?.to_be_bytes())?;
        self.put(&body)?;
        self.records += 1;
        Ok(())
    }

    /// Writes the end, and gives the stream back with the number of records.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn finish(mut self) -> Result<(W, u64), ArchiveError> {
        let digest = self.digest.clone().finish();
        self.put(&[END])?;
        self.put(&u32::try_from(END_LEN).map_err(|_| TOO_LONG)?.to_be_bytes())?;
        self.put(&self.records.to_be_bytes())?;
        self.put(digest.as_ref())?;
        self.to.flush()?;
        Ok((self.to, self.records))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.digest.update(bytes);
        Ok(self.to.write_all(bytes)?)
    }
}

const TOO_LONG: ArchiveError = ArchiveError::Damaged("a record longer than any");

/// Reads a backup.
pub struct Reader<R> {
    from: R,
    digest: Context,
    taken: u64,
    records: u64,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read. A buffered stream reads faster.
    ///
    /// # Errors
    /// [`ArchiveError::NotABackup`] and [`ArchiveError::Io`].
    pub fn begin(from: R) -> Result<Reader<R>, ArchiveError> {
        let mut reader = Reader { from, digest: Context::new(&SHA256), taken: 0, records: 0, ended: false };
        let magic = reader.take().map_err(|error| match error {
            ArchiveError::CutShort => ArchiveError::NotABackup,
            error => error,
        })?;
        if magic != *MAGIC {
            return Err(ArchiveError::NotABackup);
        }
        reader.taken = u64::from_be_bytes(reader.take()?);
        Ok(reader)
    }

    /// When the backup was taken, in seconds since the Unix epoch.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The next record; `None` at the end of a backup that is whole and unchanged.
    ///
    /// # Errors
    /// Every [`ArchiveError`] but `NotABackup`. What was read before an error may be damaged too.
    pub fn next_record(&mut self) -> Result<Option<Record>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let so_far = self.digest.clone();
        let [kind] = self.take()?;
        let length = usize::try_from(u32::from_be_bytes(self.take()?)).map_err(|_| TOO_LONG)?;
        if length > MOST_BYTES {
            return Err(TOO_LONG);
        }
        let mut body = Vec::new();
        // Not reserved beforehand: the length is only what the file says.
        (&mut self.from).take(length as u64).read_to_end(&mut body)?;
        if body.len() < length {
            return Err(ArchiveError::CutShort);
        }
        self.digest.update(&body);
        if kind != END {
            self.records += 1;
            return record::decode(kind, &body).map(Some).ok_or(ArchiveError::Damaged("what is no record"));
        }
        let (records, digest) = body.split_first_chunk().ok_or(ArchiveError::Damaged("its end"))?;
        if digest != so_far.finish().as_ref() {
            return Err(ArchiveError::Damaged("its content is not what was written"));
        }
        if u64::from_be_bytes(*records) != self.records {
            return Err(ArchiveError::Damaged("records are missing"));
        }
        if self.from.read(&mut [0])? != 0 {
            return Err(ArchiveError::Damaged("something follows its end"));
        }
        self.ended = true;
        Ok(None)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ArchiveError> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.digest.update(&bytes);
        Ok(bytes)
    }
}

/// Reads a whole backup and says how many records it has.
///
/// # Errors
/// Every [`ArchiveError`].
pub fn verify(from: impl Read) -> Result<u64, ArchiveError> {
    let mut reader = Reader::begin(from)?;
    while reader.next_record()?.is_some() {}
    Ok(reader.records)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::store::{Entry, Partition, Version};

    fn record() -> impl Strategy<Value = Record> {
        let value = proptest::collection::vec(any::<u8>(), 0..200);
        let time = (0..u64::MAX / 2).prop_map(Duration::from_millis);
        let ttl = proptest::option::of(time.clone());
        let values =
            ("[a-z]{1,9}", ".*", value.clone(), any::<u64>(), ttl).prop_map(|(of, name, value, version, ttl)| {
                let entry = Entry { value: value.into(), version: Version(version) };
                Record::Value { partition: Partition::of("grant", &[&of]), name, entry, ttl }
            });
        let items = ("[a-z]{1,9}", ".*", ".*", value, time).prop_map(|(of, queue, id, value, due_in)| Record::Item {
            partition: Partition::of("lane", &[&of]),
            queue,
            id,
            value: value.into(),
            due_in,
        });
        prop_oneof![values, items]
    }

    fn written(records: &[Record]) -> Vec<u8> {
        let mut writer = Writer::begin(Vec::new(), 1_766_000_000).unwrap();
        records.iter().for_each(|record| writer.add(record).unwrap());
        writer.finish().unwrap().0
    }

    fn read(bytes: &[u8]) -> Result<Vec<Record>, ArchiveError> {
        let mut reader = Reader::begin(bytes)?;
        let mut records = Vec::new();
        while let Some(record) = reader.next_record()? {
            records.push(record);
        }
        Ok(records)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(records in proptest::collection::vec(record(), 0..20)) {
            let bytes = written(&records);
            prop_assert_eq!(read(&bytes).unwrap(), records);
        }

        #[test]
        fn no_change_goes_unnoticed(
            records in proptest::collection::vec(record(), 0..5),
            at in any::<proptest::sample::Index>(),
            bit in 0..8_u32,
        ) {
            let bytes = written(&records);
            let at = at.index(bytes.len());
            // When it was taken is part of what the digest is of.
            let mut changed = bytes.clone();
            changed[at] ^= 1_u8 << bit;
            prop_assert!(read(&changed).is_err());
            prop_assert!(read(&bytes[..at]).is_err());
            prop_assert!(read(&[&bytes[..], b"x"].concat()).is_err());
        }

        #[test]
        fn nothing_that_is_read_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(read(&bytes).is_err());
            prop_assert!(read(&[&MAGIC[..], &bytes[..]].concat()).is_err());
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let bytes = written(&[]);
        assert!(matches!(read(b""), Err(ArchiveError::NotABackup)));
        assert!(matches!(read(b"SQLite format 3\0 and so on"), Err(ArchiveError::NotABackup)));
        assert!(matches!(read(&bytes[..30]), Err(ArchiveError::CutShort)));
        let long = [&bytes[..27], &[1, 0xff, 0xff, 0xff, 0xff]].concat();
        assert!(matches!(read(&long), Err(ArchiveError::Damaged("a record longer than any"))));
        assert_eq!(verify(bytes.as_slice()).unwrap(), 0);
    }
}
