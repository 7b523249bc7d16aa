//! What the store does by itself: commits, checkpoints, validation, scrubbing, discards.

pub(crate) mod base_write;
pub(crate) mod checkpoint;
pub(crate) mod discard;
pub(crate) mod duties;
pub(crate) mod scrub;
pub(crate) mod validate;
