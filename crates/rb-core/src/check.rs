//! Audits, inspects and repairs stores that may be damaged.

pub(crate) mod audit;
pub(crate) mod fingerprint;
pub(crate) mod inspect;
pub(crate) mod monitor;
pub(crate) mod repair;
