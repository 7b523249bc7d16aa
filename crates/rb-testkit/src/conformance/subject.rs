//! What is checked, and the control over what its device does wrong.

use std::ops::Range;
use std::sync::Arc;

use rb_io::{Engine, OpKind};

/// An engine to check.
#[derive(Debug)]
pub struct Subject {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Control over what its device does wrong, if there is any.
    pub faults: Option<Box<dyn Faults>>,
}

/// Makes the device below an engine misbehave. Each order answers whether it can be given; whoever cannot give
/// one keeps the default.
pub trait Faults: std::fmt::Debug {
    /// The next part of this kind that touches `range` fails with this error number and changes nothing. For
    /// a flush the range means nothing.
    fn fail_next(&self, op: OpKind, range: Range<u64>, errno: i32) -> bool {
        let _ = (op, range, errno);
        false
    }
    /// The next part of this kind that touches `range` moves at most so many bytes, and says so.
    fn short_next(&self, op: OpKind, range: Range<u64>, bytes: u32) -> bool {
        let _ = (op, range, bytes);
        false
    }
    /// A device with what a loss of power would leave at worst: what was flushed.
    fn crash(&self) -> Option<Arc<dyn Engine>> {
        None
    }
}
