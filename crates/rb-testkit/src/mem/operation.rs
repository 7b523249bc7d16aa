//! What a device has executed, and who is shown it.

use std::sync::Arc;

use rb_io::{OpKind, Part, PlacementId};

/// How many operations a device has executed, failed ones included.
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
    /// What it was.
    pub op: OpKind,
    /// First byte on the device.
    pub offset: u64,
    /// Bytes asked for.
    pub len: u32,
    /// Where it was to be put.
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

/// Called in the thread that reaps, without a lock of the device; see [`MemDevice::observe`](crate::MemDevice::observe).
pub(super) type ObserverFn = dyn Fn(Moment, &[MemOp]) + Send + Sync;

#[derive(Clone)]
pub(super) struct Observer(pub(super) Arc<ObserverFn>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// When an observer is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The requests are about to be executed.
    Before,
    /// They were executed, and whoever sent them does not know yet.
    After,
}
