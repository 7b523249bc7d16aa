//! The batch of a key, and its position there.

/// The place of a key in a batch of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the batch. Numbers ascend and count keys: the difference between two batches
    /// is the number of keys between them.
    pub batch: u64,
    /// The position of the key in its batch, from 0. The keys of a batch are processed shard by
    /// shard, in no particular order.
    pub position: u32,
}

/// A started batch ([`crate::Index::begin_batch`]).
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub(crate) number: u64,
}

impl Batch {
    /// Returns the place of the key at a position of this batch.
    #[must_use]
    pub fn at(self, position: usize) -> Place {
        Place {
            batch: self.number,
            position: u32::try_from(position).unwrap_or(u32::MAX),
        }
    }
}
