//! An arena: its memory, and which ranges of it are free, out, or waited for.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::error::ArenaError;
use super::free::FreeRanges;
use super::page::round_up;
use crate::process::Process;
use crate::sys::memory::Mapping;

/// Unique among the arenas of a process, and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ArenaId(pub u64);

/// Page-aligned memory that the kernel may be given. Cheap to clone: clones are the same arena.
///
/// Ranges are taken as [`Buffer`](crate::Buffer)s and come back when those are dropped. The memory itself lives
/// until the arena and every buffer of it are gone.
#[derive(Clone)]
pub struct Arena {
    pub(super) inner: Arc<ArenaInner>,
}

#[derive(Debug)]
pub(super) struct ArenaInner {
    mapping: Mapping,
    id: ArenaId,
    process: Process,
    pub(super) state: Mutex<State>,
    /// Signalled when ranges come back or the head of the line moves on.
    pub(super) changed: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) free: FreeRanges,
    /// Callers of `take_many` in arrival order, by ticket; only the first may take.
    pub(super) line: VecDeque<u64>,
    next_ticket: u64,
    /// Ranges handed out, for the words of a refused `take_at`.
    pub(super) out: BTreeMap<usize, usize>,
}

impl Arena {
    /// Allocates `bytes`, rounded up to [`PAGE_BYTES`](crate::PAGE_BYTES), as zeroed anonymous memory; large arenas
    /// ask for huge pages.
    ///
    /// # Errors
    /// [`ArenaError::Empty`] for 0 bytes, [`ArenaError::Map`] when the system has no memory.
    ///
    /// ```
    /// use rb_io::{Arena, PAGE_BYTES};
    ///
    /// let arena = Arena::allocate(5000)?;
    /// assert_eq!(arena.bytes(), 2 * PAGE_BYTES);
    /// assert!(Arena::allocate(0).is_err());
    /// # Ok::<(), rb_io::ArenaError>(())
    /// ```
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
            process: Process::current(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Size in bytes, a multiple of [`PAGE_BYTES`](crate::PAGE_BYTES).
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

    pub(crate) fn give_back(&self, offset: usize, len: usize) {
        if !self.inner.process.is_current() {
            // In a forked child a thread that is not there may hold the lock, and nothing takes the range.
            return;
        }
        let mut state = self.inner.state.lock();
        state.out.remove(&offset);
        state.free.give(offset, len);
        let someone_waits = !state.line.is_empty();
        drop(state);
        if someone_waits {
            self.inner.changed.notify_all();
        }
    }
}

impl State {
    pub(super) fn join_line(&mut self) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.line.push_back(ticket);
        ticket
    }

    pub(super) fn take(&mut self, len: usize) -> Option<usize> {
        let offset = self.free.take(len)?;
        self.out.insert(offset, len);
        Some(offset)
    }

    pub(super) fn take_at(&mut self, offset: usize, len: usize) -> bool {
        let taken = self.free.take_at(offset, len);
        if taken {
            self.out.insert(offset, len);
        }
        taken
    }

    pub(super) fn take_all(&mut self, lens: &[usize]) -> Option<Vec<usize>> {
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
