//! Reads arbitrary byte ranges of a device that has no readable descriptor.

use std::io;

use crate::arena::Arena;
use crate::lane::{Lane, Request};

/// Fills `out` with the bytes at `offset`. Bytes beyond `capacity`, a multiple of the block size,
/// read as zero.
pub(super) fn read(lane: &mut Lane, capacity: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
    /// No block is larger than this, and every block size divides it.
    const GRAIN: u64 = 64 << 10;
    let arena = Arena::allocate(GRAIN as usize).map_err(io::Error::other)?;
    out.fill(0);
    let mut done = 0;
    while done < out.len() {
        let at = offset + done as u64;
        let start = at / GRAIN * GRAIN;
        // The capacity is whole blocks, so the remainder is too.
        let len = GRAIN.min(capacity.saturating_sub(start)) as usize;
        let skip = (at - start) as usize;
        if skip >= len {
            return Ok(());
        }
        let buffer = arena
            .take(GRAIN as usize)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let completion = lane.run(vec![Request::read(start, buffer, 0, len)]).pop();
        let completion = completion.ok_or_else(|| io::Error::other("no completion"))?;
        completion.result.map_err(io::Error::other)?;
        let read = completion
            .buf
            .ok_or_else(|| io::Error::other("no buffer"))?;
        let want = (out.len() - done).min(len - skip);
        out[done..done + want].copy_from_slice(&read[skip..skip + want]);
        done += want;
    }
    Ok(())
}
