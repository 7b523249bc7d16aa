//! Taking ranges of an arena: one, several together, or one at a given offset.

use std::ops::Range;

use super::error::ArenaError;
use super::handle::{Arena, State};
use super::page::{PAGE_BYTES, round_up};
use crate::buffer::{Access, Buffer, Claim, Loan};
use crate::patience::Patience;

impl Arena {
    /// Takes one range of `len` bytes, rounded up to [`PAGE_BYTES`], without waiting.
    ///
    /// Returns `None` if `len` is 0, if no free range is large enough, or if callers of
    /// [`take_many`] are waiting: overtaking them would starve large requests.
    ///
    /// The bytes are initialised but not cleared: they hold what the previous user left there.
    ///
    /// [`take_many`]: Self::take_many
    ///
    /// ```
    /// use rb_io::{Arena, PAGE_BYTES};
    ///
    /// let arena = Arena::allocate(4 * PAGE_BYTES)?;
    /// let buffer = arena.take(3 * PAGE_BYTES).expect("the arena is free");
    /// assert_eq!(arena.available(), PAGE_BYTES);
    /// assert!(arena.take(2 * PAGE_BYTES).is_none());
    /// drop(buffer);
    /// assert!(arena.take(2 * PAGE_BYTES).is_some());
    /// # Ok::<(), rb_io::ArenaError>(())
    /// ```
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
    /// two batches cannot each hold half of what they need and deadlock.
    ///
    /// Waits for buffers to come back as long as `patience` lasts. Callers are served in arrival
    /// order; a caller behind a large request waits even if its own ranges are free. A thread that
    /// already holds buffers of the same arena may wait here for its own buffers, until the time is
    /// over.
    ///
    /// # Errors
    /// [`ArenaError::TooLarge`] immediately if the whole arena is smaller than the request,
    /// [`ArenaError::Empty`] for a length of 0, [`ArenaError::TimedOut`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use rb_io::{Arena, ArenaError, Patience};
    ///
    /// let arena = Arena::allocate(64 << 10)?;
    /// let mut patience = Patience::new(Duration::from_millis(10));
    /// let held = arena.take_many(&[16 << 10, 32 << 10], &mut patience)?;
    /// assert_eq!(held.len(), 2);
    ///
    /// // All or none: 16 KiB are free, but not 32 KiB.
    /// let refused = arena.take_many(&[16 << 10, 16 << 10], &mut patience);
    /// assert!(matches!(refused, Err(ArenaError::TimedOut { .. })));
    /// assert_eq!(arena.available(), 16 << 10);
    /// # Ok::<(), ArenaError>(())
    /// ```
    pub fn take_many(
        &self,
        lens: &[usize],
        patience: &mut Patience,
    ) -> Result<Vec<Buffer>, ArenaError> {
        let lens = self.round_all(lens)?;
        if lens.is_empty() {
            // An empty request skips the queue: its caller may hold buffers that queued callers wait for.
            return Ok(Vec::new());
        }
        let wanted = lens.iter().sum();
        let before = patience.left();
        let mut state = self.inner.state.lock();
        let ticket = state.join_line();
        let offsets = loop {
            if state.line.front() == Some(&ticket)
                && let Some(offsets) = state.take_all(&lens)
            {
                break Some(offsets);
            }
            if patience.is_over() {
                break None;
            }
            patience.spend(|step| self.inner.changed.wait_for(&mut state, step));
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
                waited: before - patience.left(),
            }),
        }
    }

    /// Takes the range of `len` bytes at `offset`, for adopted memory in which the caller assigns
    /// positions. Does not queue behind [`take_many`](Self::take_many).
    ///
    /// # Errors
    /// [`ArenaError::Misaligned`] unless both are multiples of [`PAGE_BYTES`],
    /// [`ArenaError::Empty`], [`ArenaError::OutOfRange`], [`ArenaError::Overlap`].
    pub fn take_at(&self, offset: usize, len: usize) -> Result<Buffer, ArenaError> {
        let range = self.range(offset, len)?;
        for (what, value) in [("offset", offset), ("length", len)] {
            if !value.is_multiple_of(PAGE_BYTES) {
                return Err(ArenaError::Misaligned { what, value });
            }
        }
        let mut state = self.inner.state.lock();
        if !state.take_at(offset, len) {
            return Err(state.overlap(&range));
        }
        drop(state);
        Ok(self.buffer(offset, len))
    }

    /// Lends the range of `len` bytes at `offset` to writes. Others may lend it at the same time, and
    /// its owner may read it. Any offset and length will do.
    ///
    /// # Errors
    /// [`ArenaError::Empty`], [`ArenaError::OutOfRange`]; [`ArenaError::Overlap`] with a buffer or an
    /// exclusive loan.
    ///
    /// ```
    /// use rb_io::{Arena, PAGE_BYTES};
    ///
    /// let arena = Arena::allocate(2 * PAGE_BYTES)?;
    /// let (one, other) = (arena.lend(0, 5000)?, arena.lend(100, 200)?);
    /// assert_eq!((one.len(), other.len()), (5000, 200));
    /// assert!(arena.lend_exclusive(0, 4096).is_err());
    /// # Ok::<(), rb_io::ArenaError>(())
    /// ```
    pub fn lend(&self, offset: usize, len: usize) -> Result<Loan, ArenaError> {
        self.lend_as(offset, len, Access::Shared)
    }

    /// Lends the range of `len` bytes at `offset` to a read, which changes it. Any offset and length
    /// will do.
    ///
    /// # Errors
    /// Those of [`lend`](Self::lend), and [`ArenaError::Overlap`] with any loan.
    pub fn lend_exclusive(&self, offset: usize, len: usize) -> Result<Loan, ArenaError> {
        self.lend_as(offset, len, Access::Exclusive)
    }

    fn lend_as(&self, offset: usize, len: usize, access: Access) -> Result<Loan, ArenaError> {
        let range = self.range(offset, len)?;
        let mut state = self.inner.state.lock();
        let State { free, lent, .. } = &mut *state;
        let lends = match access {
            Access::Shared => lent.add(free, &range),
            Access::Exclusive => state.take_at(offset, len),
        };
        if !lends {
            return Err(state.overlap(&range));
        }
        drop(state);
        Ok(Loan::new(Claim::new(self.clone(), offset, len, access)))
    }

    /// Checks that a range is not empty and lies in the arena.
    fn range(&self, offset: usize, len: usize) -> Result<Range<usize>, ArenaError> {
        let arena = self.bytes();
        if len == 0 {
            return Err(ArenaError::Empty);
        }
        match offset.checked_add(len).filter(|end| *end <= arena) {
            Some(end) => Ok(offset..end),
            None => Err(ArenaError::OutOfRange { offset, len, arena }),
        }
    }

    fn buffer(&self, offset: usize, len: usize) -> Buffer {
        Buffer::new(Claim::new(self.clone(), offset, len, Access::Exclusive))
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
