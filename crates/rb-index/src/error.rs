//! What can be wrong with the options of an index.

/// Why an index, or a loader for it, cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The shard count is not a power of two in 1..=1024.
    #[error("{shards} shards: the count must be a power of two from 1 to {limit}")]
    ShardCount {
        /// The count asked for.
        shards: u32,
        /// The largest count allowed.
        limit: u32,
    },
    /// No class, or more than a class number can name.
    #[error("{classes} slot classes: there must be 1 to {limit}")]
    ClassCount {
        /// The number of classes given.
        classes: usize,
        /// The largest number allowed.
        limit: usize,
    },
    /// A run of slot ids that ends before it starts.
    #[error("class {class}: the slot ids {start}..{end} end before they start")]
    ReversedRun {
        /// The class the run belongs to.
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
    /// Memory that was computed to be needed could not be had.
    #[error("{what} could not be had: {need} bytes are needed")]
    Memory {
        /// What it is for.
        what: &'static str,
        /// Bytes.
        need: u64,
    },
    /// A loader was asked for while slots are in use.
    #[error("{in_use} slots are in use already: only an empty index can be loaded")]
    NotEmpty {
        /// Slots that are neither free nor bad.
        in_use: u64,
    },
}
