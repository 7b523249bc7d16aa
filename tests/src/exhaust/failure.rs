//! A violation that a search found.

use super::images::Kept;

/// A violation of the contract, and the schedule that leads to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure {
    pub(super) what: String,
    /// Number of the operation that did each step.
    pub(super) schedule: Vec<usize>,
    /// Writes that the crash kept, if it was a crash.
    pub(super) kept: Option<Kept>,
    /// Another schedule to the same state, from which the same last step led elsewhere.
    pub(super) other: Option<Vec<usize>>,
}
