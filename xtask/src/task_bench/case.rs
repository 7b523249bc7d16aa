//! What is measured: one load, the same for all.

/// An operation.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Op {
    Get,
    Put,
}

impl Op {
    pub(super) fn name(self) -> &'static str {
        match self {
            Op::Get => "get",
            Op::Put => "put",
        }
    }
}

/// One load, the same for all contenders.
pub(super) struct Case {
    pub(super) op: Op,
    pub(super) value_bytes: u64,
    /// Values in flight, or in one batch for who has only that.
    pub(super) depth: u64,
}

impl Case {
    /// As in `get-64KiB-32`.
    pub(super) fn name(&self) -> String {
        let size = match self.value_bytes {
            bytes if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
            bytes => format!("{}KiB", bytes >> 10),
        };
        format!("{}-{size}-{}", self.op.name(), self.depth)
    }
}
