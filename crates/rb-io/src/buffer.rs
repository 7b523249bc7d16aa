// UNSAFETY: a buffer is a range of mapped memory, which Rust knows only as an address; turning it
// into a slice is unsafe. The rule that makes it sound is enforced here: slices exist only behind an
// exclusive `Claim`, which overlaps no other.
#![expect(unsafe_code, reason = "ranges of mapped memory become slices here")]
//! Buffers: types that encode which code may access which bytes.
//!
//! A [`Buffer`] is the only way to access the bytes of its range. A [`Loan`] is the same for a range
//! of the caller's memory that may be shared with others. To pass it to a device it becomes
//! an [`IoBuf`], which keeps the range taken but gives no access, and becomes a `Buffer` again only
//! when no other `IoBuf` of the range is left. A waiter, a queue or a lane can therefore be dropped
//! at any time: as long as the kernel may write, an `IoBuf` in some in-flight table keeps the range
//! from being reused or unmapped.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::arena::Arena;
use crate::sys::crc32::crc32;

/// The other users that a range may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// None.
    Exclusive,
    /// Others may read it: other claims, and the owner of the memory.
    Shared,
}

/// A range taken from its arena. An exclusive claim overlaps no other.
#[derive(Debug)]
pub(crate) struct Claim {
    arena: Arena,
    offset: usize,
    len: usize,
    access: Access,
}

impl Claim {
    pub(crate) fn new(arena: Arena, offset: usize, len: usize, access: Access) -> Self {
        Self {
            arena,
            offset,
            len,
            access,
        }
    }

    fn start(&self) -> *mut u8 {
        // A claim lies inside its arena, so the address stays within the mapping.
        self.arena.as_ptr().wrapping_add(self.offset)
    }

    /// Returns the bytes of an exclusive claim that no `IoBuf` shares.
    fn bytes(&self) -> &[u8] {
        assert_eq!(self.access, Access::Exclusive, "shared memory is no slice");
        // SAFETY: the claim lies inside its arena's mapping, which lives as long as the claim and
        // is initialised. It is exclusive and not inside an `IoBuf`, so nothing writes to the range.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }

    /// Returns the bytes of an exclusive claim that no `IoBuf` shares, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8] {
        assert_eq!(self.access, Access::Exclusive, "shared memory is no slice");
        // SAFETY: as in `bytes`; `&mut self` makes this the only slice of the range.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let shared = self.access == Access::Shared;
        self.arena.give_back(self.offset, self.len, shared);
    }
}

/// An owned range of an arena. Returns to the arena when dropped.
///
/// Starts on a page and is a whole number of pages long. Its bytes are always initialised.
#[derive(Debug)]
pub struct Buffer {
    claim: Claim,
}

impl Buffer {
    pub(crate) fn new(claim: Claim) -> Self {
        Self { claim }
    }

    /// Returns the length in bytes, a multiple of [`PAGE_BYTES`](crate::PAGE_BYTES), never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a buffer is never empty")]
    pub fn len(&self) -> usize {
        self.claim.len
    }

    /// Returns the arena that the range belongs to.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.claim.arena
    }

    /// Returns the offset of the range in its arena, in bytes.
    #[must_use]
    pub fn arena_offset(&self) -> usize {
        self.claim.offset
    }

    /// Gives up access to the bytes so that a device can use them.
    #[must_use]
    pub fn into_io(self) -> IoBuf {
        IoBuf {
            inner: Arc::new(InIo {
                claim: self.claim,
                copying: Mutex::new(()),
            }),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.claim.bytes()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.claim.bytes_mut()
    }
}

/// A range of an arena lent to I/O: to writes, shared with others that read it, or to a read,
/// exclusively. Made by [`Arena::lend`] and [`Arena::lend_exclusive`]; ends when dropped.
///
/// Unlike a [`Buffer`], it may begin and end at any byte, and it gives no slice of shared memory: its
/// owner may write there meanwhile. Then the bytes that are copied or written are any mixture of
/// old and new ones.
///
/// A device that does not answer keeps the loan, and with it the arena and the handle of the
/// memory's owner, also after the store was closed. If the process exits then, no destructor and no
/// callback of [`Arena::when_free`] runs for it. Requests of a ring that have reached the device go
/// on, and the kernel keeps their pages until they end: memory that other processes share may be
/// written to after the exit. A process with a request of the posix engine ends only when that has
/// ended.
#[derive(Debug)]
pub struct Loan {
    claim: Claim,
}

impl Loan {
    pub(crate) fn new(claim: Claim) -> Self {
        Self { claim }
    }

    /// Returns the length in bytes, never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a loan is never empty")]
    pub fn len(&self) -> usize {
        self.claim.len
    }

    /// Returns the arena that the range belongs to.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.claim.arena
    }

    /// Returns the offset of the range in its arena, in bytes.
    #[must_use]
    pub fn arena_offset(&self) -> usize {
        self.claim.offset
    }

    /// Returns whether the loan is exclusive, so that a read may change the range.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.claim.access == Access::Exclusive
    }

    /// Returns the bytes of an exclusive loan; `None` if it is shared.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        self.is_exclusive().then(|| self.claim.bytes())
    }

    /// Returns the bytes of an exclusive loan to be changed; `None` if it is shared.
    #[must_use]
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        self.is_exclusive().then(|| self.claim.bytes_mut())
    }

    /// Copies the bytes at `offset` of the range to `to`.
    ///
    /// # Panics
    /// If the range is too short.
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) {
        self.check(offset, to.len());
        let from = self.claim.start().wrapping_add(offset);
        // SAFETY: `check` keeps the copy inside the range, whose memory is mapped and
        // initialised while `self` lives. `to` cannot overlap it: a slice of the range exists only
        // behind an exclusive claim, and this one excludes those.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) };
    }

    /// Returns the CRC-32 (IEEE 802.3) of the bytes at `offset` of the range. If the owner of the
    /// memory changes them meanwhile, the result is that of no particular bytes.
    ///
    /// # Panics
    /// If the range is too short.
    ///
    /// ```
    /// let arena = rb_io::Arena::allocate(4096)?;
    /// arena.lend_exclusive(0, 9)?.bytes_mut().expect("exclusive").copy_from_slice(b"123456789");
    /// // The check value of the CRC-32 of zlib.
    /// assert_eq!(arena.lend(0, 9)?.crc32(0, 9), 0xCBF4_3926);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn crc32(&self, offset: usize, len: usize) -> u32 {
        self.check(offset, len);
        let from = self.claim.start().wrapping_add(offset);
        // SAFETY: `check` keeps the bytes inside the range, whose memory is mapped and initialised
        // while `self` lives.
        unsafe { crc32(from, len) }
    }

    fn check(&self, offset: usize, len: usize) {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len()),
            "{len} bytes at {offset} of a loan of {}",
            self.len()
        );
    }

    /// Gives the range to a device.
    pub(crate) fn into_io(self) -> IoBuf {
        IoBuf {
            inner: Arc::new(InIo {
                claim: self.claim,
                copying: Mutex::new(()),
            }),
        }
    }
}

#[derive(Debug)]
struct InIo {
    claim: Claim,
    /// Held while software copies, so that two copies of one range are not a data race.
    copying: Mutex<()>,
}

/// A buffer while a device may use it: its bytes are not accessible as a slice. Clones share the
/// range, which returns to its arena when the last one is dropped.
#[derive(Clone, Debug)]
pub struct IoBuf {
    inner: Arc<InIo>,
}

impl IoBuf {
    /// Returns the length of the range in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a buffer is never empty")]
    pub fn len(&self) -> usize {
        self.inner.claim.len
    }

    /// Returns the arena that the range belongs to.
    #[must_use]
    pub fn arena(&self) -> &Arena {
        &self.inner.claim.arena
    }

    /// Returns the offset of the range in its arena, in bytes.
    #[must_use]
    pub fn arena_offset(&self) -> usize {
        self.inner.claim.offset
    }

    /// Returns the first address, for engines that pass it to a kernel or a device.
    ///
    /// Valid for [`len`](Self::len) bytes while any clone of this `IoBuf` lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.inner.claim.start()
    }

    /// Returns the CRC-32 (IEEE 802.3) of the bytes at `offset` of the range. If a device changes them
    /// meanwhile, the result is that of no particular bytes.
    ///
    /// # Panics
    /// If the range is too short.
    pub(crate) fn crc32(&self, offset: usize, len: usize) -> u32 {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len()),
            "{len} bytes at {offset} of a range of {}",
            self.len()
        );
        let _one_at_a_time = self.inner.copying.lock();
        let from = self.as_ptr().wrapping_add(offset);
        // SAFETY: the bytes lie inside the range, whose memory is mapped and initialised while `self`
        // lives; the lock excludes software copies.
        unsafe { crc32(from, len) }
    }

    /// Converts back to a buffer if this is the last `IoBuf` of the range.
    ///
    /// # Errors
    /// Returns the `IoBuf` unchanged if other clones exist.
    pub fn into_buffer(self) -> Result<Buffer, Self> {
        match Arc::try_unwrap(self.inner) {
            Ok(InIo { claim, copying: _ }) => Ok(Buffer { claim }),
            Err(inner) => Err(Self { inner }),
        }
    }

    /// Converts back to the loan that it was made of, if this is the last `IoBuf` of it.
    pub(crate) fn into_loan(self) -> Option<Loan> {
        let InIo { claim, copying: _ } = Arc::try_unwrap(self.inner).ok()?;
        Some(Loan { claim })
    }

    /// Copies `bytes` to `offset` of the range, for engines that move bytes in software.
    ///
    /// # Errors
    /// `InvalidInput` if they do not fit.
    pub fn copy_from(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        let _one_at_a_time = self.inner.copying.lock();
        let to = self.as_ptr().wrapping_add(offset);
        // SAFETY: `check` keeps the copy inside the range, whose memory is mapped while `self`
        // lives. No slice of the range exists while an `IoBuf` does, so `bytes` cannot overlap it;
        // the lock excludes other software copies.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Ok(())
    }

    /// Copies from `offset` of the range into `bytes`, for engines that move bytes in software.
    ///
    /// # Errors
    /// `InvalidInput` if the range is too short.
    pub fn copy_to(&self, offset: usize, bytes: &mut [u8]) -> io::Result<()> {
        self.check(offset, bytes.len())?;
        let _one_at_a_time = self.inner.copying.lock();
        let from = self.as_ptr().wrapping_add(offset);
        // SAFETY: as in `copy_from`; the memory is initialised.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn check(&self, offset: usize, len: usize) -> io::Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= self.len()) {
            return Ok(());
        }
        let words = format!(
            "{len} bytes at {offset} do not fit a buffer of {} bytes",
            self.len()
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, words))
    }
}
