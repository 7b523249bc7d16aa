//! Sizes of the demo's store, its values, and its first half.

/// Bytes of each block.
pub(super) const VALUE_BYTES: usize = 256 << 10;
/// Number of slots: a store of about 1 GiB.
pub(super) const SLOTS: u64 = 4000;
/// Blocks put before the kill: fewer than the slots, so that none of them is evicted.
pub(super) const BLOCKS_BEFORE_KILL: u64 = 3000;
