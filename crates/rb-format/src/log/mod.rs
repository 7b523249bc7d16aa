//! The delta log: changes since the checkpoint base.
//!
//! A ring of format blocks. Block `sequence` is stored at block `sequence % blocks` of the ring;
//! sequence numbers start at 1 and never restart within an epoch. A block is written once, when it
//! is full or a commit needs it durable, and never extended in place: a torn write can only hit a
//! block that was never acknowledged.
//!
//! Each block names its predecessor's checksum, which makes the log a chain that rejects stale
//! blocks of an earlier round, and the highest sequence known durable when it was sealed. The
//! latter distinguishes damage from the end of the log: a missing block that a later one names as
//! durable was lost by the device.

mod block;
mod bytes;
mod encoder;
pub(crate) mod position;
mod record;

#[cfg(test)]
mod tests;

pub use block::{LogBlock, Records};
pub use encoder::{LogEncoder, SealedBlocks};
pub use position::{LogPosition, log_block_offset, log_blocks};
pub use record::{RECORD_LEN_MAX, Record};

pub use bytes::LOG_BLOCK_PAYLOAD;
pub(crate) use bytes::LogBlockBytes;
pub(crate) use record::PUT_HEAD_LEN;
pub(crate) use record::{BadSlotBytes, CloseBytes, PutBytes, RemoveBytes};
