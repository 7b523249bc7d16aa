//! The places at which an operation can be suspended.

use rb_core::{HeldLock, SwitchPoint};
use rb_testkit::Moment;

/// Where an operation can be suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between two steps of the store.
    At(SwitchPoint),
    /// Before or after the device executes its requests.
    Device(Moment),
    /// It cannot go on before another operation has.
    Waits(Wait),
}

/// What an operation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// What another operation holds over I/O.
    Lock(HeldLock),
    /// The answer of an async operation.
    Answer,
}
