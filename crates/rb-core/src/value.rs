//! Memory of values: what a get hands out, and what a put can take without a copy.

use std::fmt;
use std::ops::{Deref, DerefMut};

use rb_format::{FORMAT_BLOCK, padded_len};
use rb_io::Buffer;

use crate::error::Error;

/// One key's answer: a value, a miss, or what went wrong.
pub type Lookup = Result<Option<Value>, Error>;

/// A value that was read and verified. It owns its memory, not the slot: the lease has ended, and
/// the entry may be evicted or replaced while this lives.
pub struct Value {
    /// Head room of one format block, payload, padding.
    buf: Buffer,
    len: usize,
    metadata: Box<[u8]>,
    generation: u64,
}

impl Value {
    pub(crate) fn new(buf: Buffer, len: usize, metadata: Box<[u8]>, generation: u64) -> Value {
        Value {
            buf,
            len,
            metadata,
            generation,
        }
    }

    /// The metadata that was put with the value.
    #[must_use]
    pub fn metadata(&self) -> &[u8] {
        &self.metadata
    }

    /// Which put this value came from; grows with every put.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The memory, to be changed or put again without a copy.
    #[must_use]
    pub fn into_buffer(self) -> ValueBuf {
        ValueBuf {
            buf: self.buf,
            len: self.len,
        }
    }
}

impl Deref for Value {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buf[FORMAT_BLOCK..FORMAT_BLOCK + self.len]
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes: cached blocks are people's prompts.
        f.debug_struct("Value")
            .field("len", &self.len)
            .field("generation", &self.generation)
            .finish()
    }
}

/// Memory for one value, with room for its header in front and a padded tail, so that a put writes
/// it in one piece and copies nothing. Made by [`Store::buffer`](crate::Store::buffer).
pub struct ValueBuf {
    buf: Buffer,
    len: usize,
}

impl ValueBuf {
    /// Bytes of buffer memory that a value of `len` bytes takes.
    pub(crate) fn stride(len: usize) -> usize {
        FORMAT_BLOCK + padded_len(len as u64) as usize
    }

    pub(crate) fn new(buf: Buffer, len: usize) -> ValueBuf {
        ValueBuf { buf, len }
    }

    /// Splits into header block and payload.
    pub(crate) fn parts(&mut self) -> (&mut [u8], &mut [u8]) {
        let (header, payload) = self.buf.split_at_mut(FORMAT_BLOCK);
        (header, &mut payload[..self.len])
    }

    /// The memory as it goes to the device: header block, payload, zeroed padding.
    pub(crate) fn into_sealed(mut self) -> (Buffer, usize) {
        let stride = ValueBuf::stride(self.len);
        self.buf[FORMAT_BLOCK + self.len..stride].fill(0);
        (self.buf, stride)
    }
}

impl Deref for ValueBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.buf[FORMAT_BLOCK..FORMAT_BLOCK + self.len]
    }
}

impl DerefMut for ValueBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.parts().1
    }
}

impl fmt::Debug for ValueBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueBuf").field("len", &self.len).finish()
    }
}
