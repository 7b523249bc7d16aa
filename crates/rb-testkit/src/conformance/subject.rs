//! The engine under test, and the control over the faults of its device.

use std::ops::Range;
use std::sync::Arc;

use rb_io::{Engine, OpKind};

/// An engine to check.
#[derive(Debug)]
pub struct Subject {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Control over the faults of its device, if there is any.
    pub faults: Option<Box<dyn Faults>>,
}

/// Injects faults into the device below an engine. Each method returns whether the fault is
/// supported; the default is unsupported.
pub trait Faults: std::fmt::Debug {
    /// Makes the next part of this kind that touches `range` fail with this error number and change
    /// nothing. For a flush the range is ignored.
    fn fail_next(&self, op: OpKind, range: Range<u64>, errno: i32) -> bool {
        let _ = (op, range, errno);
        false
    }
    /// Makes the next part of this kind that touches `range` move at most this many bytes, and
    /// report it.
    fn short_next(&self, op: OpKind, range: Range<u64>, bytes: u32) -> bool {
        let _ = (op, range, bytes);
        false
    }
    /// Returns a device with the worst state that a power failure could leave: only flushed data.
    fn crash(&self) -> Option<Arc<dyn Engine>> {
        None
    }
}
