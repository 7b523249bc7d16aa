//! A block in a fixed place of the device, and what its decoder says.

use rb_format::Corruption;

use crate::error::Error;

#[derive(Clone)]
pub(crate) struct BlockAt<T> {
    pub(crate) offset: u64,
    /// None if it could not be read, or lies beyond the device.
    pub(crate) bytes: Option<Box<[u8]>>,
    /// Why it could not be read.
    pub(crate) unreadable: Option<Error>,
    pub(crate) decoded: Result<T, Corruption>,
}

impl<T> BlockAt<T> {
    /// Its place and its block, if it could be read.
    pub(crate) fn part(&self) -> Option<(u64, &[u8])> {
        Some((self.offset, self.bytes.as_deref()?))
    }

    /// `read` is none for a place beyond the device, which has `missing` instead.
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
