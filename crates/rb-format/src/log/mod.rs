//! The delta log: what happened since the checkpoint base.
//!
//! A ring of format blocks. Block `sequence` lives at block `sequence % blocks` of the ring;
//! sequence numbers start at 1 and never restart within an epoch. A block is written once, when
//! it is full or a commit wants it durable, and never extended in place: a torn write can only
//! hit a block that nobody was told about.
//!
//! Each block names its predecessor's checksum, which makes the log a chain that a stale block
//! of an earlier round cannot slip into, and the highest sequence known durable when it was
//! sealed. The latter tells damage from an end: where a block is missing that a later one calls
//! durable, the device lost it.

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
