//! Keys and the versions of their values, as numbers.

/// Number of keys.
pub(super) const KEYS: usize = 24;

/// Version of a key's value; 0 means absent.
pub(super) type Version = u32;

/// The key is absent.
pub(super) const ABSENT: Version = 0;
