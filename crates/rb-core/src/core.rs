//! What every operation of an open store shares.

pub(crate) mod commit;
pub(crate) mod gate;
pub(crate) mod inner;
pub(crate) mod poison;
pub(crate) mod proof;
pub(crate) mod switch;
pub(crate) mod thread;
pub(crate) mod waits;
pub(crate) mod walk;
pub(crate) mod writer;
