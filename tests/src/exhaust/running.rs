//! An operation of an execution: where it stands and what it knows.

use std::hash::{Hash, Hasher};

use rb_core::SwitchPoint;
use rb_testkit::Moment;
use xxhash_rust::xxh3::Xxh3;

use super::config::{KEYS, Operation};
use crate::schedule::Place;

/// An operation of an execution.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) operation: Operation,
    pub(super) began: bool,
    pub(super) ended: bool,
    /// Where it stands.
    pub(super) place: Option<Place>,
    /// The last point of the store that it passed.
    pub(super) passed: Option<SwitchPoint>,
    /// How often it stopped.
    pub(super) stops: u32,
    /// The last requests that changed the device were a flush.
    pub(super) flushes: bool,
    /// It has taken a slot.
    pub(super) has_slot: bool,
    /// The state that it made of its key.
    pub(super) made: Option<usize>,
    /// The last state of each key when it began.
    pub(super) since: [usize; KEYS],
    /// The last acknowledged state of each key when it began.
    pub(super) acknowledged: [usize; KEYS],
    /// A hash of all that it has seen of the store.
    pub(super) observed: u64,
}

impl Running {
    /// It has seen something.
    pub(super) fn observe(&mut self, what: impl Hash) {
        let mut hasher = Xxh3::with_seed(self.observed);
        what.hash(&mut hasher);
        self.observed = hasher.finish();
    }
}

impl Running {
    /// Whether its next step comes before any step of another operation. Either the step before it could as well have
    /// come right before it, or the next could have come right after that one: each order of the steps has its like here.
    ///
    /// * It has written what was decided before, where no other writes or reads: its value, blocks of the log, sections or
    ///   the header of a base. Had it done so later, whatever others have flushed meanwhile, a crash could have left the
    ///   same, and more. What a crash leaves before its next step is looked at in any case. A directory is not among these:
    ///   the step that writes it may look at the log first.
    /// * It has notified the observer of evictions, and has its slot: all that it does next is to take no more.
    pub(super) fn goes_on(&self) -> bool {
        use SwitchPoint::{CheckpointCopied, CheckpointFlushed, CommitTaken, Sending};
        match self.place {
            Some(Place::Device(Moment::After)) => {
                let decided = [CheckpointCopied, CheckpointFlushed, CommitTaken, Sending];
                !self.flushes && self.passed.is_some_and(|point| decided.contains(&point))
            }
            Some(Place::At(SwitchPoint::EvictionsNotified)) => self.has_slot,
            _ => false,
        }
    }
}
