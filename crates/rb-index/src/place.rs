//! The batch of a key, its position there, and what the caller knows of the batch.

/// The place of a key in a batch of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the batch. Numbers ascend and count keys: the difference between two batches
    /// is the number of keys between them.
    pub batch: u64,
    /// The position of the key in its batch, from 0. The keys of a batch are processed shard by
    /// shard, in no particular order.
    pub position: u32,
    /// Knowledge of the caller about the batch.
    pub hints: Hints,
}

/// Knowledge of a caller about the keys of a batch, for the eviction policy. A policy may ignore it, as
/// [`Lru`](crate::Lru) does; no promise depends on it.
///
/// ```
/// use rb_index::Hints;
///
/// let hints = Hints::new().chain_ended().priority(3);
/// assert_eq!((hints.chain_ended, hints.priority), (true, 3));
/// assert_eq!(Hints::default(), Hints::new());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Hints {
    /// True if the chain of keys has ended: the request has finished, or the session is closed, and
    /// no key will follow the batch's last one.
    pub chain_ended: bool,
    /// Priority class of the request: the higher, the more its values are worth. 0 by default.
    pub priority: u8,
}

impl Hints {
    /// Nothing is known.
    #[must_use]
    pub const fn new() -> Hints {
        Hints {
            chain_ended: false,
            priority: 0,
        }
    }

    /// Adds that the chain of keys has ended.
    #[must_use]
    pub const fn chain_ended(self) -> Hints {
        Hints {
            chain_ended: true,
            ..self
        }
    }

    /// Adds the priority class of the request.
    #[must_use]
    pub const fn priority(self, priority: u8) -> Hints {
        Hints { priority, ..self }
    }
}

/// A started batch ([`crate::Index::begin_batch`]).
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub(crate) number: u64,
    pub(crate) hints: Hints,
}

impl Batch {
    /// Adds what the caller knows of the batch.
    #[must_use]
    pub fn with_hints(self, hints: Hints) -> Batch {
        Batch { hints, ..self }
    }

    /// Returns the place of the key at a position of this batch.
    #[must_use]
    pub fn at(self, position: usize) -> Place {
        Place {
            batch: self.number,
            position: u32::try_from(position).unwrap_or(u32::MAX),
            hints: self.hints,
        }
    }
}
