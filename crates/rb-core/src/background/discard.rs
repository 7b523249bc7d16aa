//! Discards freed slots, so that the device learns which data is no longer needed.
//!
//! A freed slot first waits for a commit that makes the reason durable: otherwise a restart would
//! look for a value whose bytes are gone. The contract would allow that (verification fails, and a
//! replaced value may be missing), but a crash should not lose more than it must. Then the slot
//! waits for its turn: each step takes the slots that have waited longest, merges neighbours and
//! sends a bounded number of requests at a time. A put may take a waiting slot if no other is free,
//! but not one whose discard is in flight, because the discard could land on the put's bytes.
//!
//! Discards only help the device, so their errors fail no operation. They are counted, and if they
//! show that discarding does not work here, it ends for this session.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::Mutex;
use rb_format::{FORMAT_BLOCK, Geometry};
use rb_index::SlotId;
use rb_io::{DiscardLimits, IoError, Limits};

use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::counters::add;
use crate::error::Error;
use crate::error::error_chain;
use crate::io::meta_io::MetaIo;
use crate::io::pace::Pace;
use crate::log::delta::Task;
use crate::log::incarnations::check_writer;
use crate::simulator::{HeldLock, SwitchPoint};

/// Most requests in flight.
pub(crate) const DEPTH: u32 = 8;

/// Most slots of a class per step; at most an eighth of the class, so that puts find others. A
/// class of fewer than eight slots is not discarded.
const STEP_SLOTS_MAX: u64 = 1024;
const STEP_SHARE: u64 = 8;
/// The same while discards yield to callers: a step then takes long, and its slots are unavailable
/// until it ends.
const STEP_SLOTS_YIELDING: usize = 64;
/// Most bytes of a class per step, but at least one slot: a close waits for the step.
const STEP_BYTES_MAX: u64 = 1 << 30;

/// Consecutive steps with failed discards after which discarding ends.
const FAILURES_MAX: u32 = 3;

/// Most bytes per request, unless a single slot is larger. The deadline counts from the last
/// completion, so smaller requests keep a slow device from being taken for a dead one, and allow
/// progress reports.
const PIECE_MAX: u64 = 128 << 20;

/// Buffer bytes a step needs: both incarnation blocks.
pub(crate) const ARENA: usize = 2 * FORMAT_BLOCK;

/// Discards freed slots, some at a time.
pub(crate) struct Discards {
    /// Reason why discarding ended or never started.
    off: Mutex<Option<String>>,
    work: Mutex<Work>,
}

/// Held while requests are in flight.
struct Work {
    io: MetaIo,
    /// Each class that is discarded, with its slots per step.
    classes: Vec<(u8, usize)>,
    granularity: u64,
    failures: u32,
}

/// Adjacent slots, discarded together.
struct Joined {
    bytes: Range<u64>,
    /// Their positions among the slots of the step.
    slots: Range<usize>,
}

impl Discards {
    /// Closes its queue, unless it is working.
    pub(crate) fn release(&self) {
        if let Some(mut work) = self.work.try_lock() {
            work.io.close();
        }
    }

    /// Makes freed slots wait for their discard, in each class for which the device supports it.
    pub(crate) fn new(limits: &Limits, inner: &Inner, writer: &Writer, io: MetaIo) -> Discards {
        let (geometry, index) = (&inner.geometry, &inner.index);
        let mut classes = Vec::new();
        let off = match limits.discard {
            None => Some("the device takes no discards".to_owned()),
            Some(DiscardLimits { granularity, .. }) => {
                for (class, stats) in (0_u8..).zip(index.stats().classes) {
                    let stride = geometry.class_capacity(class) + FORMAT_BLOCK as u64;
                    let step = (stats.capacity / STEP_SHARE).min(STEP_SLOTS_MAX);
                    // A smaller slot contains no whole unit.
                    if stride >= u64::from(granularity.value) && step > 0 {
                        let step = step.min((STEP_BYTES_MAX / stride).max(1));
                        classes.push((class, usize::try_from(step).unwrap_or(1)));
                        index.discard_freed(class, true);
                    }
                }
                classes.is_empty().then(|| {
                    format!(
                        "no class has {STEP_SHARE} slots of what the device discards at least, {} bytes ({})",
                        granularity.value, granularity.source
                    )
                })
            }
        };
        writer
            .discards_freed
            .store(off.is_none(), Ordering::Relaxed);
        Discards {
            off: Mutex::new(off),
            work: Mutex::new(Work {
                io,
                classes,
                granularity: limits
                    .discard
                    .map_or(1, |discard| discard.granularity.value.into()),
                failures: 0,
            }),
        }
    }

    /// Reason why nothing is discarded; `None` if discards are on.
    pub(crate) fn off(&self) -> Option<String> {
        self.off.lock().clone()
    }

    fn end(&self, inner: &Inner, writer: &Writer, classes: &[(u8, usize)], why: String) {
        writer.discards_freed.store(false, Ordering::Relaxed);
        self.off.lock().get_or_insert(why);
        for (class, _) in classes {
            inner.index.discard_freed(*class, false);
        }
    }

    /// Discards some of the waiting slots. Returns whether there may be more.
    ///
    /// # Errors
    /// `Poisoned`, also if a flush failed that a failed discard required.
    pub(crate) fn step(
        &self,
        inner: &Inner,
        writer: &Writer,
        pace: &mut Pace<'_>,
    ) -> Result<bool, Error> {
        if !writer.discards_freed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let outcome = self.discard_some(inner, writer, pace);
        inner.counters.trace.discards_off(|| self.off());
        if outcome.is_err() {
            inner.notify_poisoned();
            inner.poison.check()?;
        }
        outcome
    }

    fn discard_some(
        &self,
        inner: &Inner,
        writer: &Writer,
        pace: &mut Pace<'_>,
    ) -> Result<bool, Error> {
        let mut work = inner.lock_over_io(&self.work, HeldLock::Discards);
        inner.poison.check()?;
        // Check first: this session must not discard on a device that another one writes to, and
        // the last commit's check may be long ago.
        if let Err(error) = check_writer(&mut work.io, &writer.incarnation) {
            self.end(inner, writer, &work.classes, error_chain(&error));
            return Ok(false);
        }
        let (mut slots, mut more) = (Vec::new(), false);
        for &(class, step) in &work.classes {
            let step = match pace.yields() {
                true => step.min(STEP_SLOTS_YIELDING),
                false => step,
            };
            more |= inner.index.take_freed(class, step, &mut slots) == step;
        }
        if slots.is_empty() {
            return Ok(false);
        }
        inner.switch(SwitchPoint::DiscardTaken);
        slots.sort_unstable();
        let joined = join(&inner.geometry, work.granularity, &slots);
        if let Some(why) = work.discard(inner, pace, &slots, &joined)? {
            self.end(inner, writer, &work.classes, why);
        }
        Ok(more && writer.discards_freed.load(Ordering::Relaxed))
    }

    /// Discards all waiting slots before a close, for a bounded time.
    pub(crate) fn rest(&self, inner: &Inner, writer: &Writer) {
        // The thread may be resting, and holds the lock that this needs.
        writer.log.hurry_discards();
        let (start, mut pace) = (Instant::now(), Pace::full());
        while start.elapsed() < inner.options.io_deadline
            && self.step(inner, writer, &mut pace).unwrap_or(false)
        {}
    }
}

impl Work {
    /// Sends the merged discards. A slot is free once its discard has completed; if the outcome is
    /// unknown, it stays out of use for the rest of the session. Slots that a slow device has not
    /// reached by the request deadline are freed without a discard, because a close waits for the
    /// step. Returns why discarding ends, if it does.
    fn discard(
        &mut self,
        inner: &Inner,
        pace: &mut Pace<'_>,
        slots: &[SlotId],
        joined: &[Joined],
    ) -> Result<Option<String>, Error> {
        let (counters, index) = (&inner.counters.discard, &inner.index);
        let (mut failed, mut lost) = (Vec::new(), None);
        let (empty, sent): (Vec<&Joined>, Vec<&Joined>) =
            joined.iter().partition(|joined| joined.bytes.is_empty());
        let free = |joined: &&Joined| index.discarded(&slots[joined.slots.clone()]);
        empty.iter().for_each(free);
        let (mut drawn, start) = (0, Instant::now());
        let ranges = sent
            .iter()
            .take_while(|_| start.elapsed() < inner.options.io_deadline)
            .inspect(|_| drawn += 1)
            .map(|joined| joined.bytes.clone());
        let driven = self
            .io
            .discard_each(pace, self.granularity, ranges, |at, result| {
                let Joined {
                    bytes,
                    slots: range,
                } = sent[at];
                let of_it = &slots[range.clone()];
                match result.map_err(Error::from) {
                    Ok(()) => {
                        add(&counters.slots, of_it.len());
                        counters
                            .bytes
                            .fetch_add(bytes.end - bytes.start, Ordering::Relaxed);
                        index.discarded(of_it);
                    }
                    Err(error) => {
                        add(&counters.failures, 1);
                        match error.is_answer_for_place() {
                            true => failed.push((of_it, error)),
                            false => lost = Some(error),
                        }
                    }
                }
            });
        // Never sent, because time ran out: free without a discard.
        sent[drawn..].iter().for_each(free);
        inner.switch(SwitchPoint::DiscardEnded);
        if let Err(error) = driven.and(lost.map_or(Ok(()), Err)) {
            return Ok(Some(format!(
                "the device did not answer a discard: {}",
                error_chain(&error)
            )));
        }
        self.end_failed(inner, &failed)
    }

    /// Frees and counts the slots of failed discards. Returns why discarding ends, if it does.
    fn end_failed(
        &mut self,
        inner: &Inner,
        failed: &[(&[SlotId], Error)],
    ) -> Result<Option<String>, Error> {
        let Some((_, first)) = failed.first() else {
            self.failures = 0;
            return Ok(None);
        };
        let (unsupported, text) = (is_unsupported(first), error_chain(first));
        // A failed discard may still land, like a failed write, but not after a flush.
        inner.flush(&mut self.io, |error| {
            format!(
                "the flush after a failed discard failed: {}",
                error_chain(error)
            )
        })?;
        failed
            .iter()
            .for_each(|(slots, _)| inner.index.discarded(slots));
        self.failures += 1;
        let often = self.failures >= FAILURES_MAX;
        Ok(match (unsupported, often) {
            (true, _) => Some(format!("the device takes no discards: {text}")),
            (false, true) => Some(format!(
                "discards failed {FAILURES_MAX} times in a row: {text}"
            )),
            (false, false) => None,
        })
    }
}

fn is_unsupported(error: &Error) -> bool {
    match error {
        Error::Io(error) => match &**error {
            IoError::Unsupported { .. } => true,
            IoError::Os { source, .. } => source.kind() == std::io::ErrorKind::Unsupported,
            _ => false,
        },
        _ => false,
    }
}

/// Merges adjacent slots, which must be sorted. Cuts each range to whole units of the device: it
/// would not free partial units at either end.
fn join(geometry: &Geometry, granularity: u64, slots: &[SlotId]) -> Vec<Joined> {
    let mut joined: Vec<Joined> = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let (Some(start), Some(capacity)) =
            (geometry.slot_offset(slot.0), geometry.slot_capacity(slot.0))
        else {
            continue;
        };
        let end = start + capacity + FORMAT_BLOCK as u64;
        match joined.last_mut() {
            Some(last) if last.bytes.end == start && end - last.bytes.start <= PIECE_MAX => {
                last.bytes.end = end;
                last.slots.end = at + 1;
            }
            _ => joined.push(Joined {
                bytes: start..end,
                slots: at..at + 1,
            }),
        }
    }
    for Joined { bytes, .. } in &mut joined {
        *bytes = whole_units(bytes, granularity);
    }
    joined
}

/// The whole units in a range; empty if there are none.
fn whole_units(bytes: &Range<u64>, unit: u64) -> Range<u64> {
    let unit = unit.max(1);
    let end = bytes.end - bytes.end % unit;
    bytes.start.next_multiple_of(unit).min(end)..end
}

/// Discards all of `ranges` in pieces that are in flight together, and reports progress after each
/// piece. Returns the number of bytes.
pub(crate) fn discard_all(
    io: &mut MetaIo,
    limits: &Limits,
    ranges: &[Range<u64>],
    mut progress: impl FnMut(u64, u64),
) -> Result<u64, Error> {
    let Some(discard) = limits.discard else {
        let op = rb_io::OpKind::Discard;
        return Err(IoError::Unsupported { op }.into());
    };
    let unit = u64::from(discard.granularity.value);
    let piece = PIECE_MAX
        .min(discard.bytes_max.value)
        .next_multiple_of(unit.max(1));
    let pieces = ranges.iter().flat_map(|range| {
        let range = whole_units(range, unit);
        let starts = (range.start..range.end).step_by(usize::try_from(piece).unwrap_or(usize::MAX));
        starts.map(move |start| start..range.end.min(start.saturating_add(piece)))
    });
    let pieces: Vec<Range<u64>> = pieces.collect();
    let len = |piece: &Range<u64>| piece.end - piece.start;
    let all = pieces.iter().map(len).sum();
    let (mut done, mut failure) = (0, None);
    io.discard_each(
        &mut Pace::full(),
        unit,
        pieces.iter().cloned(),
        |at, result| match result {
            Ok(()) => {
                done += len(&pieces[at]);
                progress(done, all);
            }
            Err(error) => drop(failure.get_or_insert(error)),
        },
    )?;
    failure.map_or(Ok(all), |error| Err(error.into()))
}

impl Discards {
    /// Runs the store's discard thread: works after each commit that freed slots, until the log
    /// stops.
    pub(crate) fn serve(&self, inner: &Inner, writer: &Writer) {
        let wait = |time| writer.log.rest_discards(time);
        let mut pace = Pace::yielding(&inner.lanes.load, inner.options.clock.as_ref(), &wait);
        while writer.log.wait_discard() == Task::Discard {
            while !writer.log.is_stopped() && self.step(inner, writer, &mut pace).unwrap_or(false) {
            }
        }
    }
}
