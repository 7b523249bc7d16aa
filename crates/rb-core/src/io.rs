//! What the store asks of the device: lanes of requests, metadata, the fixed blocks.

pub(crate) mod block_at;
pub(crate) mod headers;
pub(crate) mod hold;
pub(crate) mod lanes;
pub(crate) mod meta_io;
pub(crate) mod pace;
pub(crate) mod superblocks;
mod turns;
pub(crate) mod unusable;
pub(crate) mod unwritable;
pub(crate) mod whose;
