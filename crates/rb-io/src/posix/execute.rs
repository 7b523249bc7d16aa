//! Executes one part synchronously.

use std::io;

use rustix::fs::FallocateFlags;

use crate::device::{Device, DeviceKind};
use crate::request::{OpKind, Part, PartDone};
use crate::sys::transfer;

pub(super) fn execute(device: &Device, part: Part) -> PartDone {
    let result = match part.op {
        OpKind::Read => transfer::read(device.fd(), &part),
        OpKind::Write => transfer::write(device.fd(), &part),
        OpKind::Flush => rustix::fs::fdatasync(device.fd())
            .map(|()| 0)
            .map_err(io::Error::from),
        OpKind::Discard => discard(device, &part).map(|()| part.len),
    };
    PartDone {
        token: part.token,
        buf: part.buf,
        result,
    }
}

/// Discards in the calling thread.
fn discard(device: &Device, part: &Part) -> io::Result<()> {
    let (offset, len) = (part.offset, u64::from(part.len));
    if device.kind() == DeviceKind::Block {
        return transfer::discard_blocks(device.fd(), offset, len);
    }
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(device.fd(), hole, offset, len)?)
}
