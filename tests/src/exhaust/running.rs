//! An operation of an execution: its position and what it knows.

use std::hash::{Hash, Hasher};

use rb_core::SwitchPoint;
use xxhash_rust::xxh3::Xxh3;

use super::config::{KEYS, Operation};
use crate::schedule::Place;

/// An operation of an execution.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) operation: Operation,
    pub(super) began: bool,
    pub(super) ended: bool,
    /// Place at which it stands.
    pub(super) place: Option<Place>,
    /// The last switch point of the store that it passed.
    pub(super) passed: Option<SwitchPoint>,
    /// Number of its stops.
    pub(super) stops: u32,
    /// True if the last requests that changed the device were a flush.
    pub(super) flushes: bool,
    /// True if it has taken the one slot that it needs.
    pub(super) has_slot: bool,
    /// State that it made of its key.
    pub(super) made: Option<usize>,
    /// The last state of each key when it began.
    pub(super) since: [usize; KEYS],
    /// The last acknowledged state of each key when it began.
    pub(super) acknowledged: [usize; KEYS],
    /// A hash of everything it has seen of the store.
    pub(super) observed: u64,
}

impl Running {
    /// Adds something it has seen to the hash.
    pub(super) fn observe(&mut self, what: impl Hash) {
        let mut hasher = Xxh3::with_seed(self.observed);
        what.hash(&mut hasher);
        self.observed = hasher.finish();
    }
}
