//! The error of creating an index.

/// The error returned when an index, or a loader for it, cannot be created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The shard count is not a power of two in 1..=1024.
    #[error("{shards} shards: the count must be a power of two from 1 to {limit}")]
    ShardCount {
        /// The requested count.
        shards: u32,
        /// The largest allowed count.
        limit: u32,
    },
    /// No class, or more than an entry can name.
    #[error("{classes} slot classes: there must be 1 to {limit}")]
    ClassCount {
        /// The number of classes given.
        classes: usize,
        /// The largest allowed number.
        limit: usize,
    },
    /// A run of slot ids that ends before it starts.
    #[error("class {class}: the slot ids {start}..{end} end before they start")]
    ReversedRun {
        /// The class that the run belongs to.
        class: usize,
        /// First slot id of the run.
        start: u32,
        /// End (exclusive) of the run.
        end: u32,
    },
    /// Two runs share a slot id.
    #[error("slot {slot} belongs to two runs (of classes {first} and {second})")]
    Overlap {
        /// The first shared slot id.
        slot: u32,
        /// The class of the run that starts first.
        first: u8,
        /// The class of the run that starts inside it.
        second: u8,
    },
    /// Memory whose size was computed in advance could not be allocated.
    #[error("{what} could not be had: {need} bytes are needed")]
    Memory {
        /// The purpose of the memory.
        what: &'static str,
        /// Its size in bytes.
        need: u64,
    },
    /// A policy factory made too few or too many policies.
    #[error("the policy factory made {policies} policies for {shards} shards")]
    PolicyCount {
        /// Number of policies.
        policies: usize,
        /// Number of shards, each of which needs one.
        shards: usize,
    },
    /// A loader was requested while slots are in use.
    #[error("{in_use} slots are in use already: only an empty index can be loaded")]
    NotEmpty {
        /// Number of slots that are neither free nor bad.
        in_use: u64,
    },
}
