//! How a command ends.

use crate::failure::Failure;

/// How a command ended that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It did what was asked.
    Done,
    /// The key is not there.
    Miss,
    /// It audited a store and found it damaged.
    Damaged,
    /// It audited a store and found that it cannot be opened, or looked at a place where no store can be.
    Unusable,
    /// It measured what it was to measure, and found the store broken. A JSON result says so in its
    /// `error`, so that there is one line whatever happens.
    Broken(Failure),
}
