//! Which batch a key came in, and where in it.

/// The place of a key in a batch of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the batch. Numbers ascend, and count keys: between two batches lie as many keys as their
    /// numbers are apart.
    pub batch: u64,
    /// The position of the key in its batch, from 0. The keys of a batch come in no particular order, each shard's together.
    pub position: u32,
}

/// A batch that has begun ([`crate::Index::begin_batch`]).
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub(crate) number: u64,
}

impl Batch {
    /// The place of the key at a position of this batch.
    #[must_use]
    pub fn at(self, position: usize) -> Place {
        Place {
            batch: self.number,
            position: u32::try_from(position).unwrap_or(u32::MAX),
        }
    }
}
