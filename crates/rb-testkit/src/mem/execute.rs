//! Executes requests: held, slow, failing or normal.

use std::io;
use std::sync::Arc;

use parking_lot::MutexGuard;
use rb_io::{Board, Limits, OpKind, Part, PartDone};

use super::faults::{Fault, touches};
use super::operation::{MemOp, Moment};
use super::pages::PAGE;
use super::rates::Mishap;
use super::record::MemWrite;
use super::state::{EIO, ENOSPC, MemDevice, State};

impl MemDevice {
    /// Ends every hold and executes held requests in order; those of one queue complete together.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.holds.clear();
        let mut ended: Vec<(Arc<Board>, Vec<PartDone>)> = Vec::new();
        for (part, board) in std::mem::take(&mut state.held) {
            let done = self.execute(&mut state, part);
            match ended.iter_mut().find(|(of, _)| Arc::ptr_eq(of, &board)) {
                Some((_, all)) => all.push(done),
                None => ended.push((board, vec![done])),
            }
        }
        for (board, done) in ended {
            board.put(done);
        }
    }

    /// Executes a batch. Flushes run first: they cover writes that were complete before they were
    /// pushed, not those that the observer writes in the meantime.
    pub(super) fn run(&self, parts: Vec<Part>, board: &Arc<Board>) -> io::Result<()> {
        let (observer, sent) = {
            let state = self.state.lock();
            (state.observer.clone(), state.written)
        };
        let ops: Vec<MemOp> = parts.iter().map(MemOp::of).collect();
        let tell = |moment| {
            if let (Some(observer), false) = (&observer, ops.is_empty()) {
                observer.0(moment, &ops);
            }
        };
        tell(Moment::Before);
        let answer = self.run_all(parts, board, sent);
        tell(Moment::After);
        answer
    }

    fn run_all(&self, parts: Vec<Part>, board: &Arc<Board>, sent: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let (flushes, others): (Vec<_>, Vec<_>) =
            parts.into_iter().partition(|part| part.op == OpKind::Flush);
        let slow = std::mem::take(&mut state.slow);
        for part in flushes.into_iter().chain(others) {
            if let Some(trap) = state.sprung_by(&part) {
                MutexGuard::unlocked(&mut state, || (trap.act)(self));
            }
            let held = state.holds.iter().any(|range| touches(&part, range));
            if held || state.queue_errno.is_some() {
                // A broken queue never reports completions; the device keeps its parts.
                state.held.push((part, Arc::clone(board)));
            } else if state.chance.is_slow(&part) {
                state.slow.push((part, Arc::clone(board)));
            } else {
                state.covered = sent;
                let done = self.execute(&mut state, part);
                state.covered = u64::MAX;
                board.put([done]);
            }
        }
        for (part, board) in slow {
            board.put([self.execute(&mut state, part)]);
        }
        let broken = state.queue_errno;
        broken.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    /// Executes the slow requests, because a caller waits.
    pub(super) fn run_slow(&self) {
        let mut state = self.state.lock();
        for (part, board) in std::mem::take(&mut state.slow) {
            board.put([self.execute(&mut state, part)]);
        }
    }

    fn execute(&self, state: &mut State, part: Part) -> PartDone {
        state.log.push(MemOp::of(&part));
        let counts = &mut state.counts;
        *match part.op {
            OpKind::Read => &mut counts.reads,
            OpKind::Write => &mut counts.writes,
            OpKind::Flush => &mut counts.flushes,
            OpKind::Discard => &mut counts.discards,
        } += 1;
        let result = state
            .power_for(&part)
            .and_then(|()| self.check(&part))
            .and_then(|()| match state.faults.strike(&part) {
                Some(Fault::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
                Some(Fault::Short(bytes)) => self.apply(state, &part, part.len.min(bytes)),
                Some(Fault::Late(errno)) => state.postpone(&part, errno),
                Some(Fault::Garble) => self.apply(state, &part, part.len).and_then(garble(&part)),
                None => self.apply_or_fail(state, &part),
            });
        if part.op == OpKind::Flush && result.is_err() {
            state.flush_failed();
        }
        PartDone {
            token: part.token,
            buf: part.buf,
            result,
        }
    }

    /// Rejects parts that a kernel would reject with EINVAL, but never silently accept.
    fn check(&self, part: &Part) -> io::Result<()> {
        part.check()?;
        if part.op == OpKind::Flush {
            return Ok(());
        }
        let Limits {
            block,
            memory_align,
            transfer_max,
            ..
        } = self.limits;
        let block = u64::from(block.value);
        let len = u64::from(part.len);
        let end = part.offset.checked_add(len);
        let aligned = part.offset.is_multiple_of(block) && len.is_multiple_of(block) && len > 0;
        let inside = end.is_some_and(|end| end <= self.capacity_bytes);
        let transfer = part.op != OpKind::Discard;
        let fits = !transfer || len <= transfer_max.value;
        let memory =
            !transfer || (part.buf_offset as u64).is_multiple_of(memory_align.value.into());
        let one_side = self.limits.boundary.is_none_or(|boundary| {
            !transfer || part.offset / boundary.value == (part.offset + len - 1) / boundary.value
        });
        let ids = self.limits.placements.map_or(0, |ids| ids.value);
        let known = part.placement.is_none_or(|id| id.0.get() <= ids);
        if known && aligned && inside && fits && memory && one_side {
            return Ok(());
        }
        let words = format!("memory device: {part:?} breaks {:?}", self.limits);
        Err(io::Error::new(io::ErrorKind::InvalidInput, words))
    }

    /// Executes a part, unless a random fault strikes.
    fn apply_or_fail(&self, state: &mut State, part: &Part) -> io::Result<u32> {
        match state.chance.strike(part) {
            None => self.apply(state, part, part.len),
            Some(Mishap::Fails) => Err(io::Error::from_raw_os_error(EIO)),
            Some(Mishap::NoSpace) => Err(io::Error::from_raw_os_error(ENOSPC)),
            Some(Mishap::Lost) => Ok(part.len),
            Some(Mishap::Late) => state.postpone(part, EIO),
            Some(Mishap::Short) => {
                let block = self.limits.block.value;
                let blocks = state.chance.number(u64::from(part.len / block)) as u32;
                self.apply(state, part, blocks * block)
            }
            Some(Mishap::Rots) => {
                let bit = part.offset * 8 + state.chance.number(u64::from(part.len) * 8);
                state.flip(bit);
                self.apply(state, part, part.len)
            }
            Some(Mishap::Misdirected) => {
                let write = MemWrite::of(part)?;
                let blocks = (self.capacity_bytes - u64::from(part.len)) / PAGE as u64;
                let offset = state.chance.number(blocks + 1) * PAGE as u64;
                state.store(offset, &write.bytes);
                Ok(part.len)
            }
        }
    }

    fn apply(&self, state: &mut State, part: &Part, len: u32) -> io::Result<u32> {
        let zeros = || vec![0; len as usize];
        match (part.op, &part.buf) {
            // No intermediate buffer: opening a store reads much, and most of it was never written.
            (OpKind::Read, Some(buf)) => {
                for (range, bytes) in state.live.pieces(part.offset, len as usize) {
                    buf.copy_from(part.buf_offset + range.start, bytes)?;
                }
            }
            (OpKind::Write, Some(buf)) => {
                let mut bytes = zeros();
                buf.copy_to(part.buf_offset, &mut bytes)?;
                state.store(part.offset, &bytes);
            }
            (OpKind::Discard, _) => state.store(part.offset, &zeros()),
            _ => state.flush(),
        }
        Ok(len)
    }
}

/// Inverts the bytes that a read put into its buffer.
fn garble(part: &Part) -> impl FnOnce(u32) -> io::Result<u32> {
    move |len| {
        let mut bytes = vec![0; len as usize];
        if let Some(buf) = &part.buf {
            buf.copy_to(part.buf_offset, &mut bytes)?;
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            buf.copy_from(part.buf_offset, &bytes)?;
        }
        Ok(len)
    }
}
