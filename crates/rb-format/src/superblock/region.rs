//! A range of device bytes.

/// A range of device bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Device offset of its first byte.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}
