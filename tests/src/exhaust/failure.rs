//! What a search has found.

use super::images::Kept;

/// What breaks the contract, and the way to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure {
    pub(super) what: String,
    /// Which operation did each step.
    pub(super) schedule: Vec<usize>,
    /// What the crash left, if it was one.
    pub(super) kept: Option<Kept>,
    /// Another schedule to the same state, from which the same last step led elsewhere.
    pub(super) other: Option<Vec<usize>>,
}
