// UNSAFETY: an arena is built over memory that the caller mapped; the caller promises the
// properties that make it usable.
#![expect(unsafe_code, reason = "adopted memory")]
//! Arenas over memory owned by the caller.

use std::any::Any;
use std::ptr::NonNull;

use super::memory::Mapping;
use crate::arena::{Arena, ArenaError, PAGE_BYTES};

impl Arena {
    /// Makes an arena of memory owned by the caller; `owner` is dropped when the arena and every
    /// buffer of it are gone.
    ///
    /// # Errors
    /// [`ArenaError::Misaligned`] unless `start` and `bytes` are multiples of [`PAGE_BYTES`],
    /// [`ArenaError::Empty`] for 0 bytes.
    ///
    /// # Safety
    /// Until `owner` is dropped, the `bytes` at `start` must lie in one allocation and stay mapped,
    /// readable and writable, and must be initialised. No other code may read or write a range
    /// while it is out as a [`Buffer`](crate::Buffer) or an exclusive [`Loan`](crate::Loan), nor
    /// adopt the memory a second time. A range under shared loans may be read; what is stored of a
    /// range that is written meanwhile is not specified.
    pub unsafe fn adopt(
        start: NonNull<u8>,
        bytes: usize,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Result<Self, ArenaError> {
        let address = start.addr().get();
        for (what, value) in [("adopted address", address), ("adopted length", bytes)] {
            if !value.is_multiple_of(PAGE_BYTES) {
                return Err(ArenaError::Misaligned { what, value });
            }
        }
        if bytes == 0 {
            return Err(ArenaError::Empty);
        }
        // SAFETY: the caller promises what `adopted` requires.
        Ok(Self::over(unsafe { Mapping::adopted(start, bytes, owner) }))
    }
}
