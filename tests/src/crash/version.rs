//! Keys and the versions of their values, as numbers.

/// Number of keys in play.
pub(super) const KEYS: usize = 24;

/// A version of a key's value; 0 is "not there".
pub(super) type Version = u32;

/// Not there.
pub(super) const ABSENT: Version = 0;
