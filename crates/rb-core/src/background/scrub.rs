//! The scrubber: reads whole values at a limited rate, verifies each, and drops damaged entries.
//!
//! A pass visits every live entry once. A step reads as much as the rate allows as one batch, over
//! a queue and buffers of its own, so it competes with gets and puts for nothing but the device's
//! time. A value that fails verification is read once more; if it fails again, exactly that
//! generation is invalidated. A failed read invalidates nothing.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use rb_format::FORMAT_BLOCK;

use crate::core::entry_scan::{EntryScan, LiveEntry};
use crate::core::inner::Inner;
use crate::core::pieces::{Piece, buffer_bytes};
use crate::core::verify::EntryCheck;
use crate::counters::{ScrubCounters, ScrubPass, add};
use crate::error::Error;
use crate::events::DropReason;
use crate::io::meta_io::{MetaIo, ReadAt};
use crate::io::pace::Pace;
use crate::io::requests::Purpose;
use crate::options::Scrub;
use crate::simulator::{HeldLock, SwitchPoint};

/// Buffer bytes of the scrubber, unless the largest value needs more.
const ARENA_MIN: usize = 4 << 20;

/// Most requests in flight.
const DEPTH: u32 = 16;

/// Entries per step of a thread.
pub(crate) const SCRUB_STEP: usize = 256;

/// Most index positions per step, so that a step over an empty index ends, too.
const POSITIONS_MAX: usize = 4096;

/// Time's worth of rate that may accumulate, so that small values are read in batches. A step that
/// comes later does not catch up.
const SAVED_MAX: Duration = Duration::from_millis(100);

/// Shortest wait for the rate, for the same reason.
const WAIT_MIN: Duration = Duration::from_millis(50);

/// Pause after the device did not respond.
pub(crate) const WAIT_AFTER_SILENCE: Duration = Duration::from_mins(1);

/// Reads whole values at a limited rate, one batch at a time.
pub(crate) struct Scrubber {
    pass: Mutex<Pass>,
    counters: Arc<ScrubCounters>,
}

struct Pass {
    options: Scrub,
    allowance: Allowance,
    /// `None` between passes.
    walk: Option<EntryScan>,
    next_pass: Duration,
    /// Time at which a pass that the device interrupted resumes.
    silent_until: Duration,
    /// Created with a pass. Dropped, with any hanging requests, if the device does not respond.
    io: Option<MetaIo>,
    counters: Arc<ScrubCounters>,
    report: Option<ScrubPass>,
}

/// The counters of the store and of one scrubber.
#[derive(Clone, Copy)]
struct Both<'a>([&'a ScrubCounters; 2]);

impl Both<'_> {
    fn add(self, which: fn(&ScrubCounters) -> &AtomicU64, count: usize) {
        for counters in self.0 {
            add(which(counters), count);
        }
    }
}

impl Scrubber {
    /// A scrubber whose first pass begins immediately.
    pub(crate) fn new(options: Scrub, now: Duration) -> Scrubber {
        let counters = Arc::<ScrubCounters>::default();
        Scrubber {
            pass: Mutex::new(Pass::new(options, now, Arc::clone(&counters))),
            counters,
        }
    }

    /// Returns whether a step is in progress.
    pub(crate) fn is_busy(&self) -> bool {
        self.pass.is_locked()
    }

    pub(crate) fn counters(&self) -> &ScrubCounters {
        &self.counters
    }

    /// Returns true before and after a pass. Waits for a step that is in progress.
    pub(crate) fn is_between_passes(&self) -> bool {
        self.pass.lock().walk.is_none()
    }

    /// Closes its queue, unless it is working.
    pub(crate) fn release(&self) {
        if let Some(mut pass) = self.pass.try_lock() {
            pass.io = None;
        }
    }

    /// Scrubs up to `count` entries, as far as the rate allows. Returns the time until there is
    /// more to do.
    ///
    /// # Errors
    /// The device or its queue stopped responding, or there was no memory or queue. The pass
    /// resumes after a pause; entries that were not read are left to the next pass.
    pub(crate) fn step(
        &self,
        inner: &Inner,
        count: usize,
        pace: &mut Pace<'_>,
    ) -> Result<Duration, Error> {
        let mut pass = inner.lock_over_io(&self.pass, HeldLock::Scrubber);
        let now = inner.options.clock.now();
        let wait = pass.begin(now);
        if !wait.is_zero() {
            return Ok(wait);
        }
        // Its span starts under the scrubber's own lock, which no operation takes.
        pass.report
            .get_or_insert_with(|| ScrubPass::new(&inner.counters.trace, &self.counters));
        let (batch, more) = pass.meet(inner, count);
        inner.switch(SwitchPoint::ScrubCopied);
        let (mut dropped, mut unread) = (Vec::new(), Vec::new());
        let outcome = pass.read(inner, pace, &batch, &mut dropped, &mut unread);
        // Read the clock again: turns include rests.
        let now = inner.options.clock.now();
        let counters = Both([&inner.counters.scrub, &self.counters]);
        counters.add(|of| &of.dropped, dropped.len());
        if outcome.is_err() {
            counters.add(|of| &of.errors, 1);
            // A lane is dead after an error; the next step makes a new one.
            pass.io = None;
            pass.silent_until = now + WAIT_AFTER_SILENCE;
        }
        if !more {
            counters.add(|of| &of.passes, usize::from(outcome.is_ok()));
            pass.io = None;
            pass.walk = None;
        }
        let report = (!more).then(|| pass.report.take()).flatten();
        let wait = pass.begin(now);
        // An observer may call the store.
        drop(pass);
        for at in dropped {
            batch[at].notify_dropped(inner, DropReason::FailedScrub);
        }
        for (at, error) in unread {
            let slot = batch[at].located.slot.0;
            inner.counters.trace.read_failed("scrubber", slot, &error);
        }
        if let Err(error) = &outcome {
            inner.counters.trace.task_failed("scrubber", error);
        }
        if let Some(report) = report {
            report.end(&self.counters);
        }
        outcome.map(|()| wait)
    }
}

impl Pass {
    fn new(options: Scrub, now: Duration, counters: Arc<ScrubCounters>) -> Pass {
        Pass {
            options,
            allowance: Allowance::new(options.bytes_per_second, now),
            walk: None,
            next_pass: now,
            silent_until: now,
            io: None,
            counters,
            report: None,
        }
    }

    /// Returns the time until something may be read. If it is zero, a pass is in progress.
    fn begin(&mut self, now: Duration) -> Duration {
        let mut earliest = self.silent_until;
        if self.walk.is_none() {
            earliest = earliest.max(self.next_pass);
        }
        if now < earliest {
            return earliest - now;
        }
        if self.walk.is_none() {
            self.walk = Some(EntryScan::default());
            self.next_pass = now.saturating_add(self.options.pass_interval);
        }
        self.allowance.wait(now)
    }

    /// Takes the entries to read next: up to `count`, as far as the rate and the buffers allow.
    /// Also returns whether the pass continues after them.
    fn meet(&mut self, inner: &Inner, count: usize) -> (Vec<LiveEntry>, bool) {
        let Pass {
            walk: Some(walk),
            allowance,
            ..
        } = self
        else {
            return (Vec::new(), false);
        };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for _ in 0..POSITIONS_MAX {
            if batch.len() >= count || bytes >= arena_bytes(inner) || allowance.is_spent() {
                break;
            }
            // One position at a time: everything the walk passes must be read.
            let more = walk.step(&inner.index, 1, &mut |entry| {
                let entry = LiveEntry::new(&inner.index, &entry);
                bytes += stride(&entry);
                allowance.spend(stride(&entry));
                batch.push(entry);
            });
            if !more {
                return (batch, false);
            }
        }
        (batch, true)
    }

    /// Reads and verifies the entries. Appends the positions of dropped ones to `dropped`.
    fn read(
        &mut self,
        inner: &Inner,
        pace: &mut Pace<'_>,
        batch: &[LiveEntry],
        dropped: &mut Vec<usize>,
        unread: &mut Vec<(usize, Error)>,
    ) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let io = match &mut self.io {
            Some(io) => io,
            none => {
                let engine = inner.device.engine()?;
                let deadline = inner.options.io_deadline;
                let mut io = MetaIo::new(engine.as_ref(), arena_bytes(inner), DEPTH, deadline)?;
                io.count_in(&inner.lanes.requests, Purpose::Upkeep);
                none.insert(io)
            }
        };
        let own = Arc::clone(&self.counters);
        let counters = Both([&inner.counters.scrub, &own]);
        let mut round: Vec<usize> = (0..batch.len()).collect();
        // The second round reads only the entries that failed verification in the first.
        for again in [false, true] {
            let of_entry = |&at: &usize| {
                let pieces = batch[at].pieces(&inner.geometry);
                pieces.map(move |piece| (at, piece))
            };
            let pieces: Vec<(usize, Piece)> = round.iter().flat_map(of_entry).collect();
            let reads = pieces.iter().enumerate().map(|(tag, (_, piece))| ReadAt {
                tag,
                offset: piece.header_offset(&inner.geometry),
                len: FORMAT_BLOCK + piece.padded_len(),
            });
            let mut doubtful = Vec::new();
            let check = |entry| EntryCheck::new(entry, true);
            let mut checks: Vec<_> = batch.iter().map(check).collect();
            io.read_each(pace, reads, |tag, bytes| {
                let (at, piece) = &pieces[tag];
                let (entry, check) = (&batch[*at], &mut checks[*at]);
                let is_last = match bytes {
                    Err(error) => {
                        unread.push((*at, error.into()));
                        check.unreadable()
                    }
                    Ok(bytes) => {
                        counters.add(|of| &of.bytes, FORMAT_BLOCK + piece.padded_len());
                        check.piece(&inner.identity, entry, piece, bytes)
                    }
                };
                if !is_last {
                    return;
                }
                match check.verdict(&inner.identity, entry) {
                    None => counters.add(|of| &of.errors, 1),
                    Some(true) => {
                        entry.set_verified(&inner.index);
                        counters.add(|of| &of.entries, 1);
                    }
                    Some(false) if !again => doubtful.push(*at),
                    Some(false) => {
                        if entry.invalidate(inner) {
                            counters.add(|of| &of.entries, 1);
                            dropped.push(*at);
                        }
                    }
                }
            })?;
            // Most mismatches are entries that were replaced in the meantime.
            doubtful.retain(|&at| batch[at].is_live(&inner.index));
            for &at in &doubtful {
                self.allowance.spend(stride(&batch[at]));
            }
            round = doubtful;
        }
        Ok(())
    }
}

fn arena_bytes(inner: &Inner) -> usize {
    ARENA_MIN.max(buffer_bytes(inner.geometry.largest_value() as usize, 1))
}

/// Bytes read of an entry: headers and padded payload.
fn stride(entry: &LiveEntry) -> usize {
    buffer_bytes(entry.located.payload_len as usize, entry.slots.len())
}

/// A token bucket in bytes. It may go into debt by one entry, so that the largest value can be read
/// at the lowest rate. The balance counts bytes times nanoseconds, so that nothing is rounded.
struct Allowance {
    bytes_per_second: i128,
    balance: i128,
    at: Duration,
}

const SECOND: i128 = 1_000_000_000;

impl Allowance {
    fn new(bytes_per_second: NonZeroU64, now: Duration) -> Allowance {
        let mut full = Allowance {
            bytes_per_second: bytes_per_second.get().into(),
            balance: 0,
            at: now,
        };
        full.balance = full.earned_in(SAVED_MAX);
        full
    }

    /// Returns the time until the debt is paid; zero if there is none.
    fn wait(&mut self, now: Duration) -> Duration {
        let gained = now.saturating_sub(self.at);
        self.at = now;
        self.balance = self
            .balance
            .saturating_add(self.earned_in(gained))
            .min(self.earned_in(SAVED_MAX));
        if !self.is_spent() {
            return Duration::ZERO;
        }
        let nanos = (-self.balance + self.bytes_per_second - 1) / self.bytes_per_second;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(WAIT_MIN)
    }

    fn earned_in(&self, time: Duration) -> i128 {
        let nanos = i128::try_from(time.as_nanos()).unwrap_or(i128::MAX);
        nanos.saturating_mul(self.bytes_per_second)
    }

    fn is_spent(&self) -> bool {
        self.balance < 0
    }

    fn spend(&mut self, bytes: usize) {
        self.balance -= bytes as i128 * SECOND;
    }
}
