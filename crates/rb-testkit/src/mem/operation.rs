//! The operations that a device has executed, and the observer's types.

use std::sync::Arc;

use rb_io::{OpKind, Part, PlacementId};

/// Number of executed operations of a device, including failed ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemCounts {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
}

/// One executed operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemOp {
    /// The kind of operation.
    pub op: OpKind,
    /// First byte on the device.
    pub offset: u64,
    /// Requested bytes.
    pub len: u32,
    /// Requested placement.
    pub placement: Option<PlacementId>,
}

impl MemOp {
    pub(super) fn of(part: &Part) -> Self {
        Self {
            op: part.op,
            offset: part.offset,
            len: part.len,
            placement: part.placement,
        }
    }
}

/// Called in the thread that reaps, without a lock of the device; see
/// [`MemDevice::observe`](crate::MemDevice::observe).
pub(super) type ObserverFn = dyn Fn(Moment, &[MemOp]) + Send + Sync;

#[derive(Clone)]
pub(super) struct Observer(pub(super) Arc<ObserverFn>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// The time at which an observer is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The requests are about to be executed.
    Before,
    /// The requests were executed, and the caller has not been notified yet.
    After,
}
