//! The delta log: its queue in memory, its layout on the device, and who may write it.

pub(crate) mod chain;
pub(crate) mod committer;
pub(crate) mod delta;
pub(crate) mod incarnations;
pub(crate) mod mend;
pub(crate) mod order;
pub(crate) mod quarantine;
pub(crate) mod reader;
