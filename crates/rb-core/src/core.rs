//! State and code shared by all operations of an open store.

pub(crate) mod commit;
pub(crate) mod direct;
pub(crate) mod entry_scan;
pub(crate) mod expiry;
pub(crate) mod gate;
pub(crate) mod inner;
pub(crate) mod keeping;
pub(crate) mod lifetime;
pub(crate) mod pieces;
pub(crate) mod poison;
pub(crate) mod reports;
pub(crate) mod saving;
pub(crate) mod switch;
pub(crate) mod thread;
pub(crate) mod verify;
pub(crate) mod waits;
pub(crate) mod writer;
