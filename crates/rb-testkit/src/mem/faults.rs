//! The scripted faults of a device, and when they strike.

use std::ops::Range;

use rb_io::{OpKind, Part};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// Fail with this error number and change nothing.
    Errno(i32),
    /// Move at most this many bytes.
    Short(u32),
    /// Fail with this error number, and let the write land at the next flush.
    Late(i32),
    /// Read everything, and invert every byte.
    Garble,
}

#[derive(Debug)]
struct Scripted {
    op: OpKind,
    range: Range<u64>,
    fault: Fault,
    /// `None` means every time.
    times: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Scripted>);

impl Faults {
    pub(super) fn add(&mut self, op: OpKind, range: Range<u64>, fault: Fault, times: Option<u32>) {
        self.0.push(Scripted {
            op,
            range,
            fault,
            times,
        });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the first matching fault for `part`, in the order in which faults were added.
    pub(super) fn strike(&mut self, part: &Part) -> Option<Fault> {
        let index = self
            .0
            .iter()
            .position(|s| s.op == part.op && touches(part, &s.range))?;
        let scripted = &mut self.0[index];
        let fault = scripted.fault;
        if let Some(times) = &mut scripted.times {
            *times -= 1;
            if *times == 0 {
                self.0.remove(index);
            }
        }
        Some(fault)
    }
}

/// Returns whether a part touches a range. A flush has no range and touches every one.
pub(super) fn touches(part: &Part, range: &Range<u64>) -> bool {
    part.op == OpKind::Flush
        || (part.offset < range.end && range.start < part.offset + u64::from(part.len))
}
