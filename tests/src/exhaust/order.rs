//! Decides which orders of steps need not be tried, because an equivalent order is tried.

use rb_core::SwitchPoint;
use rb_testkit::Moment;

use super::config::Operation;
use super::running::Running;
use crate::schedule::Place;

impl Running {
    /// Returns whether the operation's next step comes before any step of another operation. Either the previous step
    /// could as well have come right before it, or the next one right after the previous: each order of the steps has
    /// an equivalent here.
    ///
    /// * It has written something that was decided before, where no other operation writes or reads: its value, blocks
    ///   of the log, sections or the header of a base. Had it written it later, regardless of what others have flushed
    ///   in the meantime, a crash could have left the same, and more. What a crash leaves before its next step is
    ///   checked in any case. A directory is not among these: the step that writes it may look at the log first.
    /// * It has notified the observer of evictions, and has its slot: its next step takes nothing more.
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

/// Returns whether operations are switched at a place. If not, the step after it or the step before it commutes with
/// every step of every other operation, and changes nothing that a crash would show; so an order that switches there
/// has the same outcome as one that does not.
///
/// * Planning, log space and buffers: there is enough of both for all, and additions to counters commute. Admission, if
///   the policy admits everything. The recency clock moves, but a stamp is a sixteenth of its reading, and no execution
///   has that many operations.
/// * Between the reservation of a put and its write, and between the end of the write and its effects, it works on its
///   own memory, and takes and returns one of enough lanes.
/// * An operation that has made its last change only returns: the earlier it is acknowledged, the more is promised.
/// * A lock that is held over I/O is taken at one of these places and not switched at: nothing happens under it before
///   the next place.
pub(super) fn is_visible(operation: Operation, place: Place, refuses: bool) -> bool {
    use SwitchPoint::{
        Arrived, CheckpointBegins, CheckpointDone, CheckpointFlushed, CheckpointHeader,
        CheckpointSections, CommitFlushed, CommitWritten, PutAdmitted, PutJudged, PutPartDone,
        PutPlanned, RemoveAdmitted, RemovesDone, Sending,
    };
    let each_batch = operation.is_each_batch();
    match place {
        Place::Waits(_) => true,
        Place::Device(moment) => moment == Moment::After,
        Place::At(SwitchPoint::Published | SwitchPoint::Removed) => each_batch,
        Place::At(SwitchPoint::CommitDone) => operation != Operation::Sync,
        Place::At(PutJudged) => refuses,
        Place::At(point) => !matches!(
            point,
            PutPlanned
                | PutAdmitted
                | Sending
                | Arrived
                | PutPartDone
                | RemoveAdmitted
                | RemovesDone
                | CommitWritten
                | CommitFlushed
                | CheckpointBegins
                | CheckpointSections
                | CheckpointFlushed
                | CheckpointHeader
                | CheckpointDone
        ),
    }
}
