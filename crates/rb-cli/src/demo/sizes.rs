//! Sizes of the demo: its store, its values, and its first half.

/// Bytes of each block.
pub(super) const VALUE_BYTES: usize = 256 << 10;
/// Slots: a store of about 1 GiB.
pub(super) const SLOTS: u64 = 4000;
/// Blocks put before the kill: well below the slots, so that nothing of them is ever evicted.
pub(super) const BLOCKS_BEFORE_KILL: u64 = 3000;
