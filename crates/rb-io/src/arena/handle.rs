//! The handle of an arena: its memory, its free ranges, and the queue of callers waiting for
//! ranges.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use super::error::ArenaError;
use super::free::FreeRanges;
use super::lent::Lent;
use super::page::round_up;
use crate::process::Process;
use crate::sys::memory::Mapping;

/// Identifies an arena; unique within a process and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ArenaId(pub u64);

/// Page-aligned memory for I/O. Cheap to clone; all clones refer to the same arena.
///
/// Ranges are taken as [`Buffer`](crate::Buffer)s and return to the arena when those are dropped.
/// The memory is freed when the arena and all of its buffers are gone.
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
    /// Signalled when ranges come back or the head of the queue changes.
    pub(super) changed: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) free: FreeRanges,
    /// Callers of `take_many` in arrival order, by ticket; only the first may take.
    pub(super) line: VecDeque<u64>,
    next_ticket: u64,
    /// Ranges handed out for one user alone, for the error of a refused request for a given range.
    pub(super) out: BTreeMap<usize, usize>,
    pub(super) lent: Lent,
    /// Callbacks of `when_free`.
    waiting: Vec<Waiting>,
}

/// A range that a callback waits for.
struct Waiting {
    range: Range<usize>,
    call: Box<dyn FnOnce() + Send>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Waiting({:?})", self.range)
    }
}

impl Arena {
    /// Allocates `bytes`, rounded up to [`PAGE_BYTES`](crate::PAGE_BYTES), of zeroed anonymous
    /// memory. Large arenas request huge pages.
    ///
    /// # Errors
    /// [`ArenaError::Empty`] for 0 bytes, [`ArenaError::Map`] if the kernel has no memory.
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

    /// Allocates like [`allocate`](Self::allocate), but backed by a sealed memory file that can be
    /// passed to another process, for engines whose device is served by a process. Its pages are
    /// small unless `/sys/kernel/mm/transparent_hugepage/shmem_enabled` enables huge ones.
    ///
    /// # Errors
    /// See [`allocate`](Self::allocate).
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
            lent: Lent::default(),
            waiting: Vec::new(),
        };
        // Relaxed: the numbers only have to differ.
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

    /// Returns the size in bytes, a multiple of [`PAGE_BYTES`](crate::PAGE_BYTES).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.mapping.bytes()
    }

    /// Returns the number of bytes not handed out right now; they may lie in several ranges.
    #[must_use]
    pub fn available(&self) -> usize {
        self.inner.state.lock().free.bytes()
    }

    /// Returns the id of this arena.
    #[must_use]
    pub fn id(&self) -> ArenaId {
        self.inner.id
    }

    /// Returns whether the memory was adopted rather than allocated.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.inner.mapping.is_adopted()
    }

    /// Returns the file that backs the memory, from its first byte, so that it can be passed to
    /// another process. `None` unless the arena was made by
    /// [`allocate_shared`](Self::allocate_shared).
    #[must_use]
    pub fn shared_file(&self) -> Option<BorrowedFd<'_>> {
        self.inner.mapping.file()
    }

    /// Returns whether no other handle and no buffer keeps the memory alive.
    #[cfg(feature = "libblkio")]
    pub(crate) fn is_only_handle(&self) -> bool {
        Arc::strong_count(&self.inner) == 1
    }

    /// Returns the first address, for registering the memory with the kernel.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.inner.mapping.start().as_ptr()
    }

    /// Calls `call` once no buffer and no loan holds any byte of this range: at once, or in the
    /// thread that gives the last one back. A device that does not answer keeps its memory, so the
    /// call may never come.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use rb_io::{Arena, PAGE_BYTES};
    ///
    /// let arena = Arena::allocate(2 * PAGE_BYTES)?;
    /// let loan = arena.lend(0, 100)?;
    /// let (sender, free) = mpsc::channel();
    /// arena.when_free(0, 4096, move || _ = sender.send(()));
    /// assert!(free.try_recv().is_err());
    /// drop(loan);
    /// assert!(free.try_recv().is_ok());
    /// # Ok::<(), rb_io::ArenaError>(())
    /// ```
    pub fn when_free(&self, offset: usize, len: usize, call: impl FnOnce() + Send + 'static) {
        let mut state = self.inner.state.lock();
        let range = offset..offset.saturating_add(len).min(self.bytes());
        if range.is_empty() || state.free.contains(range.start, range.len()) {
            drop(state);
            return call();
        }
        state.waiting.push(Waiting {
            range,
            call: Box::new(call),
        });
    }

    pub(crate) fn give_back(&self, offset: usize, len: usize, shared: bool) {
        if !self.inner.process.is_current() {
            // In a forked child, a thread that does not exist there may hold the lock; leak the
            // range instead.
            return;
        }
        let mut state = self.inner.state.lock();
        let State {
            free,
            out,
            lent,
            waiting,
            ..
        } = &mut *state;
        if shared {
            lent.remove(free, &(offset..offset + len));
        } else {
            out.remove(&offset);
            free.give(offset, len);
        }
        let is_free = |waits: &mut Waiting| free.contains(waits.range.start, waits.range.len());
        let freed: Vec<Waiting> = waiting.extract_if(.., is_free).collect();
        let someone_waits = !state.line.is_empty();
        drop(state);
        for waits in freed {
            (waits.call)();
        }
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

    /// Returns the error of a range inside the arena that is in use.
    pub(super) fn overlap(&self, range: &Range<usize>) -> ArenaError {
        // The last user alone that begins before the end of the range or, if that does not reach
        // it, a shared loan.
        let alone = self.out.range(..range.end).next_back();
        let alone = alone.map(|(&at, &len)| at..at + len);
        let other = alone
            .filter(|other| other.end > range.start)
            .or_else(|| self.lent.first_in(range))
            .unwrap_or_else(|| range.clone());
        ArenaError::Overlap {
            offset: range.start,
            len: range.len(),
            other_offset: other.start,
            other_len: other.len(),
        }
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
