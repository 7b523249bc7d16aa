//! Looks at stores that may be damaged, and repairs them.

pub(crate) mod audit;
pub(crate) mod fingerprint;
pub(crate) mod inspect;
pub(crate) mod repair;
