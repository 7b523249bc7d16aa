//! The ways in which a command ends.

use crate::failure::Failure;

/// Result of a command that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It did what was asked.
    Done,
    /// The key is not in the store.
    Miss,
    /// The audited store is damaged.
    Damaged,
    /// A part of the running store does not work.
    Alarm,
    /// The audited store cannot be opened, or no engine can use the probed path.
    Unusable,
    /// The command measured the store and found it broken. With `--json` the result was written with
    /// the failure in its `error`, so the output is one line in this case too.
    Broken(Failure),
}
