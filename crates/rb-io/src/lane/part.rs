//! One part of a request in flight: the remaining range, and the handling of its completion.

use std::io;
use std::ops::Range;
use std::time::Duration;

use crate::error::{IoError, is_transient};
use crate::limits::Limits;
use crate::request::{Memory, OpKind};
use crate::split::Span;

/// Number of retries after a transient error before the error is returned.
const TRIES_MAX: u32 = 16;
/// Number of times that a short transfer is continued.
const SHORTS_MAX: u32 = 64;
/// Number of retries without a delay; EINTR and EAGAIN are mostly gone by then.
const TRIES_AT_ONCE: u32 = 2;
const DELAY_FIRST: Duration = Duration::from_micros(100);
const DELAY_MAX: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct PartState {
    /// Distinguishes this use of the table index from earlier ones.
    pub(super) serial: u32,
    pub(super) request: usize,
    /// The range not yet transferred.
    pub(super) rest: Span,
    whole: Span,
    pub(super) memory: Memory,
    tries: u32,
    shorts: u32,
    /// True if a try has failed that may have reached the device.
    doubtful: bool,
}

/// The next step after a part completed.
pub(super) enum After {
    Done,
    Again(Duration),
    Failed(IoError),
}

impl PartState {
    pub(super) fn new(serial: u32, request: usize, (span, memory): (Span, Memory)) -> Self {
        Self {
            serial,
            request,
            rest: span,
            whole: span,
            memory,
            tries: 0,
            shorts: 0,
            doubtful: false,
        }
    }

    /// All bytes of memory that it transfers.
    pub(super) fn memory_range(&self) -> Range<usize> {
        let start = self.whole.buf_offset;
        start..start + self.whole.len as usize
    }

    pub(super) fn token(&self, index: usize) -> u64 {
        (u64::from(self.serial) << 32) | index as u64
    }

    pub(super) fn of_token(token: u64) -> (usize, u32) {
        ((token & u64::from(u32::MAX)) as usize, (token >> 32) as u32)
    }

    pub(super) fn after(
        &mut self,
        op: OpKind,
        result: io::Result<u32>,
        limits: &Limits,
        engine: &'static str,
    ) -> After {
        match result {
            Err(source) if is_transient(&source) && self.tries < TRIES_MAX => {
                self.tries += 1;
                self.doubtful |= source.raw_os_error() != Some(libc::ECANCELED);
                After::Again(delay(self.tries))
            }
            Err(source) => {
                let Span { offset, len, .. } = self.rest;
                After::Failed(IoError::Os {
                    engine,
                    op,
                    offset,
                    len,
                    source,
                })
            }
            Ok(_) if matches!(op, OpKind::Flush | OpKind::Discard) => After::Done,
            Ok(moved) if u64::from(moved) >= self.rest.len => After::Done,
            Ok(moved) => self.continue_short(op, moved.into(), limits, engine),
        }
    }

    /// The error of a part whose rest is not sent any more.
    pub(super) fn given_up(&self, op: OpKind, engine: &'static str) -> IoError {
        if !self.doubtful {
            return given_up(self.rest, op, engine);
        }
        let Span { offset, len, .. } = self.rest;
        let source = io::Error::from_raw_os_error(libc::ECANCELED);
        IoError::Os {
            engine,
            op,
            offset,
            len,
            source,
        }
    }

    fn continue_short(
        &mut self,
        op: OpKind,
        moved: u64,
        limits: &Limits,
        engine: &'static str,
    ) -> After {
        // The rest must begin on a block boundary, so a partly moved block is moved again.
        let whole_blocks = moved - moved % u64::from(limits.block.value);
        self.shorts += 1;
        if moved == 0 || self.shorts > SHORTS_MAX {
            let moved = self.whole.len - self.rest.len + moved;
            let Span {
                offset,
                len: wanted,
                ..
            } = self.whole;
            return After::Failed(IoError::Short {
                engine,
                op,
                offset,
                moved,
                wanted,
            });
        }
        self.rest.offset += whole_blocks;
        self.rest.len -= whole_blocks;
        self.rest.buf_offset += whole_blocks as usize;
        After::Again(Duration::ZERO)
    }
}

/// The error of a range whose request was given up before it was sent.
pub(super) fn given_up(span: Span, op: OpKind, engine: &'static str) -> IoError {
    let Span { offset, len, .. } = span;
    IoError::GivenUp {
        engine,
        op,
        offset,
        len,
    }
}

fn delay(tries: u32) -> Duration {
    match tries.checked_sub(TRIES_AT_ONCE + 1) {
        None => Duration::ZERO,
        Some(doublings) => (DELAY_FIRST * (1 << doublings.min(10))).min(DELAY_MAX),
    }
}
