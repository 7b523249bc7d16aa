//! I/O of the store: lanes for requests, metadata I/O, the blocks at fixed places.

pub(crate) mod block_at;
pub(crate) mod headers;
pub(crate) mod hold;
pub(crate) mod lanes;
pub(crate) mod meta_io;
pub(crate) mod pace;
pub(crate) mod requests;
pub(crate) mod superblocks;
mod turns;
pub(crate) mod unusable;
pub(crate) mod unwritable;
pub(crate) mod whose;
