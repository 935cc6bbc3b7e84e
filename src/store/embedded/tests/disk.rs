//! A disk that loses its power, or runs full, when it is told to.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::Rng;
use redb::{BackendError, StorageBackend};

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// A disk. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What is there for whoever reads.
    seen: Vec<u8>,
    /// What a power cut cannot take.
    safe: Vec<u8>,
    /// What has been written since the last sync.
    unsafe_writes: Vec<Write>,
    /// Calls until the power fails; `None`: it does not.
    calls_left: Option<usize>,
    /// The most bytes that the disk holds.
    room: Option<u64>,
    /// Whether the next call panics, as a bug in what stands above a disk does.
    breaks: bool,
    syncs: usize,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({} bytes, {} writes unsafe)", self.seen.len(), self.unsafe_writes.len())
    }
}

enum Write {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

impl Write {
    fn run(&self, image: &mut Vec<u8>) {
        match self {
            Write::Length(length) => image.resize(*length, 0),
            Write::Bytes(offset, bytes) => {
                // A write beyond the end: the length that went before it was lost, and so is this.
                if let Some(place) = image.get_mut(*offset..offset + bytes.len()) {
                    place.copy_from_slice(bytes);
                }
            }
        }
    }

    /// The parts that reach the disk, if any do: a long write may be torn between sectors.
    fn survive(self, chance: &mut impl Rng, image: &mut Vec<u8>) {
        match self {
            Write::Bytes(offset, bytes) if chance.next_u32().is_multiple_of(4) => {
                for (at, sector) in bytes.chunks(SECTOR).enumerate() {
                    if chance.next_u32().is_multiple_of(2) {
                        Write::Bytes(offset + at * SECTOR, sector.to_vec()).run(image);
                    }
                }
            }
            whole if chance.next_u32().is_multiple_of(2) => whole.run(image),
            _ => {}
        }
    }
}

impl Disk {
    /// Cuts the power after so many more calls.
    pub(super) fn cut_after(&self, calls: usize) {
        self.0.lock().calls_left = Some(calls);
    }

    /// Turns the power on again. Of what was not synced any part may be there, each write whatever became of those
    /// before it.
    pub(super) fn power_on(&self, chance: &mut impl Rng) {
        let mut state = self.0.lock();
        let mut image = std::mem::take(&mut state.safe);
        for write in std::mem::take(&mut state.unsafe_writes) {
            write.survive(chance, &mut image);
        }
        state.seen.clone_from(&image);
        state.safe = image;
        state.calls_left = None;
    }

    pub(super) fn break_once(&self) {
        self.0.lock().breaks = true;
    }

    pub(super) fn set_room(&self, room: Option<u64>) {
        self.0.lock().room = room;
    }

    pub(super) fn len(&self) -> u64 {
        self.0.lock().seen.len() as u64
    }

    pub(super) fn syncs(&self) -> usize {
        self.0.lock().syncs
    }

    /// Does one call, as long as there is power.
    fn call<T>(&self, call: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock();
        assert!(!std::mem::take(&mut state.breaks), "broken");
        match &mut state.calls_left {
            Some(0) => return Err(io::Error::other("the power is out")),
            Some(left) => *left -= 1,
            None => {}
        }
        call(&mut state)
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.call(|state| Ok(state.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.call(|state| {
            let found = state.seen.get(offset..offset + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(|state| {
            if state.room.is_some_and(|room| len > room) {
                return Err(ErrorKind::StorageFull.into());
            }
            let write = Write::Length(usize::try_from(len).unwrap());
            write.run(&mut state.seen);
            state.unsafe_writes.push(write);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(|state| {
            state.syncs += 1;
            for write in std::mem::take(&mut state.unsafe_writes) {
                write.run(&mut state.safe);
            }
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.call(|state| {
            let write = Write::Bytes(usize::try_from(offset).unwrap(), data.to_vec());
            write.run(&mut state.seen);
            state.unsafe_writes.push(write);
            Ok(())
        })
    }

    // One process, so nobody else holds a lock.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
