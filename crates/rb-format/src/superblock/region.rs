//! Where a part of the store lies.

/// A range of device bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first device byte.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}
