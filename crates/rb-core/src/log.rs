//! The delta log: what is queued, how it lies on the device, and who may write it.

pub(crate) mod chain;
pub(crate) mod committer;
pub(crate) mod delta;
pub(crate) mod incarnations;
pub(crate) mod mend;
pub(crate) mod order;
pub(crate) mod quarantine;
pub(crate) mod reader;
