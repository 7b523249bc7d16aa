//! Writes log blocks to both rings on behalf of the writer named in the incarnation blocks.

use std::collections::BTreeMap;
use std::time::Duration;

use rb_format::FORMAT_BLOCK;
use rb_io::Request;

use crate::clock::Clock;
use crate::error::Error;
use crate::io::meta_io::MetaIo;
use crate::io::unwritable::FailedWrite;
use crate::log::delta::{DeltaLog, Pending};
use crate::log::incarnations::{Opened, check_writer};

pub(crate) struct Committer {
    pub(crate) io: MetaIo,
    /// Time of the takeover; `None` once something was written.
    taken_over_at: Option<Duration>,
    /// Start of the last read of the incarnation blocks that showed no other writer.
    alone_at: Option<Duration>,
}

/// Longest age of a read of the incarnation blocks that a commit may rely on when it writes.
/// Back-to-back commits therefore read them once each: the read before one acknowledgement also
/// serves the next commit's writes. A new session writes its first log block at least this long
/// after its nonce is durable, so it overwrites everything that a former writer wrote relying on an
/// older read.
const READING_SERVES: Duration = Duration::from_micros(250);

/// Most bytes of log written in one request.
const PIECE: usize = 1 << 20;

impl Committer {
    /// A committer of a store that was taken over before `now`.
    pub(crate) fn new(io: MetaIo, now: Duration) -> Committer {
        Committer {
            io,
            taken_over_at: Some(now),
            alone_at: None,
        }
    }

    /// Returns whether the last read still serves and whether the first write is still to come:
    /// together they decide what the next commit does.
    pub(crate) fn state(&self, clock: &dyn Clock) -> (bool, bool) {
        (self.reading_serves(clock), self.taken_over_at.is_some())
    }

    /// Returns whether the last read of the incarnation blocks is recent enough to write after it.
    fn reading_serves(&self, clock: &dyn Clock) -> bool {
        let now = clock.now();
        let serves = |at| now.saturating_sub(at) < READING_SERVES;
        self.alone_at.is_some_and(serves)
    }

    /// Reads the incarnation blocks; fails if another session has written one.
    pub(crate) fn check_writer(&mut self, clock: &dyn Clock, ours: &Opened) -> Result<(), Error> {
        let began = clock.now();
        check_writer(&mut self.io, ours)?;
        self.alone_at = Some(began);
        Ok(())
    }

    /// Writes each block to both rings. Returns the blocks that one of the rings did not take.
    pub(crate) fn write(
        &mut self,
        clock: &dyn Clock,
        ours: &Opened,
        log: &DeltaLog,
        pending: Option<&Pending>,
    ) -> Result<Vec<FailedWrite>, Error> {
        // A former writer may still write, relying on a read from before our nonce. Wait until
        // every such read has expired.
        if let Some(at) = self.taken_over_at.take() {
            let since = clock.now().saturating_sub(at);
            clock.sleep(READING_SERVES.saturating_sub(since));
        }
        if !self.reading_serves(clock) {
            self.check_writer(clock, ours)?;
        }
        let Some(pending) = pending else {
            return Ok(Vec::new());
        };
        assert!(
            pending.bytes.len().is_multiple_of(FORMAT_BLOCK),
            "a commit writes whole blocks"
        );
        let pieces = pieces(log, pending);
        let mut requests = Vec::with_capacity(2 * pieces.len());
        for ring in [0, 1] {
            for &(sequence, piece) in &pieces {
                let mut buf = self.io.buffer(piece.len())?;
                buf[..piece.len()].copy_from_slice(piece);
                let offset = log.block_offsets(sequence)[ring];
                requests.push(Request::write(offset, buf, 0, piece.len()));
            }
        }
        let failed = self.io.run_each(requests)?;
        match failed.is_empty() {
            true => Ok(Vec::new()),
            false => self.write_singly(log, &pieces, failed),
        }
    }

    /// Retries failed pieces block by block: one bad block must not cost its neighbours their copy.
    /// `failed` numbers the pieces of ring 1, then those of ring 2.
    fn write_singly(
        &mut self,
        log: &DeltaLog,
        pieces: &[(u64, &[u8])],
        failed: Vec<(usize, Error)>,
    ) -> Result<Vec<FailedWrite>, Error> {
        let mut refused: [BTreeMap<u64, Error>; 2] = Default::default();
        let mut writes = Vec::new();
        for (number, error) in failed {
            let ring = number / pieces.len();
            let (sequence, piece) = pieces[number % pieces.len()];
            if piece.len() == FORMAT_BLOCK {
                refused[ring].insert(sequence, error);
            } else {
                let blocks = (sequence..).zip(piece.chunks_exact(FORMAT_BLOCK));
                writes.extend(blocks.map(|(sequence, block)| (ring, sequence, block)));
            }
        }
        let offset = |ring: usize, sequence: u64| log.block_offsets(sequence)[ring];
        let singly: Vec<_> = writes
            .iter()
            .map(|&(ring, sequence, block)| (offset(ring, sequence), block))
            .collect();
        for (number, error) in self.io.write_each(&singly)? {
            let (ring, sequence, _) = writes[number];
            refused[ring].insert(sequence, error);
        }
        if let Some(lost) = lost(&refused) {
            return Err(lost);
        }
        let words = ["log block in ring 1", "log block in ring 2"];
        let failed = refused.iter().enumerate().flat_map(|(ring, sequences)| {
            sequences.iter().map(move |(&sequence, why)| {
                FailedWrite::new(words[ring], offset(ring, sequence), Some(why))
            })
        });
        Ok(failed.collect())
    }
}

/// Returns the error if neither ring took some block. A block that one ring may take once there is
/// space counts as out of space; an error that is not for lack of space takes precedence.
fn lost([first, second]: &[BTreeMap<u64, Error>; 2]) -> Option<Error> {
    let of_block = |(sequence, error): (&u64, &Error)| {
        let other = second.get(sequence)?;
        Some(match error.is_out_of_space() {
            true => error.clone(),
            false => other.clone(),
        })
    };
    let lost: Vec<_> = first.iter().filter_map(of_block).collect();
    let for_good = lost.iter().find(|error| !error.is_out_of_space());
    for_good.or(lost.first()).cloned()
}

/// Splits the blocks of a commit into pieces that are contiguous on the device, each with its first
/// sequence.
fn pieces<'a>(log: &DeltaLog, pending: &'a Pending) -> Vec<(u64, &'a [u8])> {
    let mut pieces = Vec::new();
    let mut sequence = pending.first_sequence;
    let mut rest = &pending.bytes[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(piece_len(log, sequence, rest.len()));
        pieces.push((sequence, piece));
        sequence += (piece.len() / FORMAT_BLOCK) as u64;
        rest = after;
    }
    pieces
}

/// Bytes that are contiguous on the device: at most up to the end of the ring.
fn piece_len(log: &DeltaLog, sequence: u64, wanted: usize) -> usize {
    let to_end = (log.ring_blocks() - sequence % log.ring_blocks()) as usize;
    wanted.min(PIECE).min(to_end.saturating_mul(FORMAT_BLOCK))
}
