//! Arenas: page-aligned memory that the kernel may be given, handed out in ranges.
//!
//! An arena is either allocated here or *adopted*: memory that belongs to someone else, such as an
//! inference server's pinned pool. Registering a whole arena with the kernel once makes every
//! range of it cheap to use, wherever it begins.

mod error;
mod free;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::buffer::{Buffer, Claim};
use crate::sys::memory::Mapping;
pub use error::ArenaError;
use free::FreeRanges;

/// The grain of arenas in bytes: sizes and ranges are multiples of it.
pub const PAGE_BYTES: usize = 4096;

/// Unique among the arenas of a process, and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ArenaId(pub u64);

/// Page-aligned memory that the kernel may be given. Cheap to clone: clones are the same arena.
///
/// Ranges are taken as [`Buffer`]s and come back when those are dropped. The memory itself lives
/// until the arena and every buffer of it are gone.
#[derive(Clone)]
pub struct Arena {
    inner: Arc<ArenaInner>,
}

#[derive(Debug)]
struct ArenaInner {
    mapping: Mapping,
    id: ArenaId,
    state: Mutex<State>,
    /// Signalled when ranges come back or the head of the line moves on.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    free: FreeRanges,
    /// Callers of `take_many` in arrival order, by ticket; only the first may take.
    line: VecDeque<u64>,
    next_ticket: u64,
    /// Ranges handed out, for the words of a refused `take_at`.
    out: BTreeMap<usize, usize>,
}

impl Arena {
    /// Allocates `bytes`, rounded up to [`PAGE_BYTES`], as zeroed anonymous memory; large arenas
    /// ask for huge pages.
    ///
    /// # Errors
    /// [`ArenaError::Empty`] for 0 bytes, [`ArenaError::Map`] when the system has no memory.
    pub fn allocate(bytes: usize) -> Result<Self, ArenaError> {
        Self::map(bytes, Mapping::anonymous)
    }

    /// Allocates as [`allocate`](Self::allocate) does, but memory that another process can be given: a
    /// sealed memory file, for engines whose device is served by a process. Its pages are small ones
    /// unless `/sys/kernel/mm/transparent_hugepage/shmem_enabled` says otherwise.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate).
    pub fn allocate_shared(bytes: usize) -> Result<Self, ArenaError> {
        Self::map(bytes, Mapping::shared)
    }

    fn map(bytes: usize, map: fn(usize) -> io::Result<Mapping>) -> Result<Self, ArenaError> {
        let bytes = round_up(bytes).ok_or(ArenaError::TooLarge {
            wanted: bytes,
            arena: 0,
        })?;
        if bytes == 0 {
            return Err(ArenaError::Empty);
        }
        map(bytes)
            .map(Self::over)
            .map_err(|source| ArenaError::Map { bytes, source })
    }

    pub(crate) fn over(mapping: Mapping) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let state = State {
            free: FreeRanges::all(mapping.bytes()),
            line: VecDeque::new(),
            next_ticket: 0,
            out: BTreeMap::new(),
        };
        let id = ArenaId(NEXT_ID.fetch_add(1, Ordering::Relaxed));
        let inner = ArenaInner {
            mapping,
            id,
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Size in bytes, a multiple of [`PAGE_BYTES`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.mapping.bytes()
    }

    /// Bytes not handed out at this moment; they may lie in several ranges.
    #[must_use]
    pub fn available(&self) -> usize {
        self.inner.state.lock().free.bytes()
    }

    /// This arena's number.
    #[must_use]
    pub fn id(&self) -> ArenaId {
        self.inner.id
    }

    /// Whether this is memory that belongs to someone else.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.inner.mapping.is_adopted()
    }

    /// The file under the memory, from its first byte on, for handing it to another process. `None` but for
    /// memory of [`allocate_shared`](Self::allocate_shared).
    #[must_use]
    pub fn shared_file(&self) -> Option<BorrowedFd<'_>> {
        self.inner.mapping.file()
    }

    /// Whether neither another handle nor a buffer keeps the memory.
    #[cfg(feature = "libblkio")]
    pub(crate) fn is_only_handle(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }

    /// The first address, for registering with the kernel.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.inner.mapping.start().as_ptr()
    }

    /// Takes one range of `len` bytes, rounded up to [`PAGE_BYTES`], without waiting.
    ///
    /// `None` if `len` is 0, if there is no such range, or if callers of [`take_many`] wait: to
    /// pass them would starve the large ones.
    ///
    /// The bytes are whatever the range held before; they are initialised, not cleared.
    ///
    /// [`take_many`]: Self::take_many
    #[must_use]
    pub fn take(&self, len: usize) -> Option<Buffer> {
        let len = round_up(len).filter(|len| *len > 0)?;
        let mut state = self.inner.state.lock();
        if !state.line.is_empty() {
            return None;
        }
        let offset = state.take(len)?;
        drop(state);
        Some(self.buffer(offset, len))
    }

    /// Takes a range for each of `lens` (each rounded up to [`PAGE_BYTES`]), all or none, so that
    /// two batches cannot hold half of what they need and wait for each other.
    ///
    /// Waits up to `wait` for buffers to come back. Callers are served in the order they came; a
    /// caller behind a large one waits although its own ranges are free. A thread that waits here
    /// while it holds buffers of the same arena waits for itself until `wait` ends.
    ///
    /// # Errors
    /// [`ArenaError::TooLarge`] at once when the whole arena is smaller, [`ArenaError::Empty`] for
    /// a length of 0, [`ArenaError::TimedOut`].
    pub fn take_many(&self, lens: &[usize], wait: Duration) -> Result<Vec<Buffer>, ArenaError> {
        let lens = self.round_all(lens)?;
        if lens.is_empty() {
            // Whoever needs nothing stands in no line: it may hold what those in it wait for.
            return Ok(Vec::new());
        }
        let wanted = lens.iter().sum();
        let started = Instant::now();
        // A wait too long for the clock is a wait without end.
        let deadline = started.checked_add(wait);
        let mut state = self.inner.state.lock();
        let ticket = state.join_line();
        let offsets = loop {
            if state.line.front() == Some(&ticket)
                && let Some(offsets) = state.take_all(&lens)
            {
                break Some(offsets);
            }
            let timed_out = match deadline {
                Some(deadline) => self
                    .inner
                    .changed
                    .wait_until(&mut state, deadline)
                    .timed_out(),
                None => {
                    self.inner.changed.wait(&mut state);
                    false
                }
            };
            if timed_out {
                // What came back in the last moment is still taken.
                let first = state.line.front() == Some(&ticket);
                break if first { state.take_all(&lens) } else { None };
            }
        };
        state.line.retain(|waiting| *waiting != ticket);
        let available = state.free.bytes();
        let others_wait = !state.line.is_empty();
        drop(state);
        if others_wait {
            self.inner.changed.notify_all();
        }
        match offsets {
            Some(offsets) => Ok(offsets
                .into_iter()
                .zip(lens)
                .map(|(at, len)| self.buffer(at, len))
                .collect()),
            None => Err(ArenaError::TimedOut {
                wanted,
                available,
                arena: self.bytes(),
                waited: started.elapsed(),
            }),
        }
    }

    /// Takes the range of `len` bytes at `offset`, for adopted memory whose owner decides where
    /// what goes. It does not stand in line behind [`take_many`](Self::take_many).
    ///
    /// # Errors
    /// [`ArenaError::Misaligned`] unless both are multiples of [`PAGE_BYTES`],
    /// [`ArenaError::Empty`], [`ArenaError::OutOfRange`], [`ArenaError::Overlap`].
    pub fn take_at(&self, offset: usize, len: usize) -> Result<Buffer, ArenaError> {
        if len == 0 {
            return Err(ArenaError::Empty);
        }
        for (what, value) in [("offset", offset), ("length", len)] {
            if !value.is_multiple_of(PAGE_BYTES) {
                return Err(ArenaError::Misaligned { what, value });
            }
        }
        let arena = self.bytes();
        let end = offset.checked_add(len).filter(|end| *end <= arena);
        let end = end.ok_or(ArenaError::OutOfRange { offset, len, arena })?;
        let mut state = self.inner.state.lock();
        if !state.take_at(offset, len) {
            // The range is inside the arena and not free, so a buffer that is out overlaps it:
            // the last one that begins before the end of the range.
            let other = state.out.range(..end).next_back();
            let (other_offset, other_len) = other.map_or((offset, len), |(at, len)| (*at, *len));
            return Err(ArenaError::Overlap {
                offset,
                len,
                other_offset,
                other_len,
            });
        }
        drop(state);
        Ok(self.buffer(offset, len))
    }

    fn buffer(&self, offset: usize, len: usize) -> Buffer {
        Buffer::new(Claim::new(self.clone(), offset, len))
    }

    pub(crate) fn give_back(&self, offset: usize, len: usize) {
        let mut state = self.inner.state.lock();
        state.out.remove(&offset);
        state.free.give(offset, len);
        let someone_waits = !state.line.is_empty();
        drop(state);
        if someone_waits {
            self.inner.changed.notify_all();
        }
    }

    fn round_all(&self, lens: &[usize]) -> Result<Vec<usize>, ArenaError> {
        let arena = self.bytes();
        let mut wanted = 0_usize;
        let mut rounded = Vec::with_capacity(lens.len());
        for &len in lens {
            if len == 0 {
                return Err(ArenaError::Empty);
            }
            let len = round_up(len).ok_or(ArenaError::TooLarge { wanted: len, arena })?;
            wanted = wanted.saturating_add(len);
            rounded.push(len);
        }
        if wanted > arena {
            return Err(ArenaError::TooLarge { wanted, arena });
        }
        Ok(rounded)
    }
}

impl State {
    fn join_line(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.line.push_back(ticket);
        ticket
    }

    fn take(&mut self, len: usize) -> Option<usize> {
        let offset = self.free.take(len)?;
        self.out.insert(offset, len);
        Some(offset)
    }

    fn take_at(&mut self, offset: usize, len: usize) -> bool {
        let taken = self.free.take_at(offset, len);
        if taken {
            self.out.insert(offset, len);
        }
        taken
    }

    fn take_all(&mut self, lens: &[usize]) -> Option<Vec<usize>> {
        let mut offsets: Vec<usize> = Vec::with_capacity(lens.len());
        for &len in lens {
            match self.take(len) {
                Some(offset) => offsets.push(offset),
                None => {
                    for (offset, len) in offsets.into_iter().zip(lens) {
                        self.out.remove(&offset);
                        self.free.give(offset, *len);
                    }
                    return None;
                }
            }
        }
        Some(offsets)
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena")
            .field("id", &self.inner.id.0)
            .field("bytes", &self.bytes())
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

fn round_up(len: usize) -> Option<usize> {
    len.checked_next_multiple_of(PAGE_BYTES)
}
