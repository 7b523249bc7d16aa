//! A case of the benchmark: one load, the same for all contenders.

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
    /// Values in flight; the batch size for contenders that only have batches.
    pub(super) depth: u64,
}

impl Case {
    /// Returns the name, such as `get-64KiB-32`.
    pub(super) fn name(&self) -> String {
        let size = match self.value_bytes {
            bytes if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
            bytes => format!("{}KiB", bytes >> 10),
        };
        format!("{}-{size}-{}", self.op.name(), self.depth)
    }
}
