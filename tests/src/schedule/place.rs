//! Places at which an operation can be suspended.

use rb_core::{HeldLock, SwitchPoint};
use rb_testkit::Moment;

/// Place at which an operation can be suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between two steps of the store.
    At(SwitchPoint),
    /// Before or after the device executes its requests.
    Device(Moment),
    /// It cannot continue before another operation has.
    Waits(Wait),
}

/// Condition that an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A lock that another operation holds over I/O.
    Lock(HeldLock),
    /// The completion of an async operation.
    Answer,
}
