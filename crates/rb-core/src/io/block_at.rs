//! A block at a fixed place of the device and the result of decoding it.

use rb_format::Corruption;

use crate::error::Error;

#[derive(Clone)]
pub(crate) struct BlockAt<T> {
    pub(crate) offset: u64,
    /// `None` if the block could not be read or lies beyond the device.
    pub(crate) bytes: Option<Box<[u8]>>,
    /// The read error, if any.
    pub(crate) unreadable: Option<Error>,
    pub(crate) decoded: Result<T, Corruption>,
}

impl<T> BlockAt<T> {
    /// Returns the offset and the bytes, if the block could be read.
    pub(crate) fn part(&self) -> Option<(u64, &[u8])> {
        Some((self.offset, self.bytes.as_deref()?))
    }

    /// Decodes a block that was read. `read` is `None` for a place beyond the device, whose error
    /// is `missing`.
    pub(crate) fn of(
        offset: u64,
        read: Option<Result<Box<[u8]>, Error>>,
        missing: Corruption,
        decode: impl FnOnce(&[u8]) -> Result<T, Corruption>,
    ) -> BlockAt<T> {
        let (bytes, unreadable) = match read {
            Some(Ok(bytes)) => (Some(bytes), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let decoded = bytes.as_deref().map_or(Err(missing), decode);
        BlockAt {
            offset,
            bytes,
            unreadable,
            decoded,
        }
    }
}
