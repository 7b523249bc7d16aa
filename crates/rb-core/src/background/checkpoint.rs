//! Writes a new checkpoint base while traffic runs.
//!
//! The snapshot is fuzzy: shard by shard, a bounded number of entries per lock hold. A record
//! queued before a shard's hold is in its snapshot; one queued later is in the log at or after the
//! position read in that hold. So the base plus the log from the first position is complete.
//!
//! Order of writes:
//! 1. sections into the region that does not hold the newest base, which therefore stays whole;
//! 2. a commit: the log up to the base's position is durable before the base can be chosen, so that the older
//!    base remains a complete way to recover;
//! 3. directory, flush: everything the header refers to is durable;
//! 4. the header in both its places, flush: from here on this base is the newest.
//!
//! Only then is the part of the log released that only the base before the former newest needed.
//!
//! An attempt that fails for lack of space costs nothing: the newest base, and the log since the
//! one before it, are whole, and the next attempt has its own sequence, so that remains of this one
//! are never taken for its parts. Any other failure, and every failed flush, poisons writing.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use rb_format::{
    BAD_SLOTS_MAX, BaseHeader, FORMAT_BLOCK, Region, base_header_offsets, encode_directory,
};

use crate::background::base_write::{Limit, SectionWriter};
use crate::core::commit::{CommitEffects, RETRY};
use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::error::Error;
use crate::error::error_chain;
use crate::events::Event;
use crate::io::meta_io::MetaIo;
use crate::io::pace::Pace;
use crate::io::unwritable::FailedWrite;
use crate::log::delta::{Retained, Task};
use crate::log::incarnations::check_writer;
use crate::simulator::{HeldLock, SwitchPoint};

/// Place of a base.
#[derive(Clone, Debug)]
pub(crate) struct BasePlace {
    /// Index of the region, 0 or 1.
    pub(crate) region: usize,
    pub(crate) position: u64,
    /// Its length in format blocks, without the headers.
    pub(crate) blocks: u64,
}

impl BasePlace {
    pub(crate) fn new(region: usize, header: &BaseHeader) -> BasePlace {
        let bytes = header.directory_offset + header.directory_len;
        BasePlace {
            region,
            position: header.position.sequence,
            blocks: bytes.div_ceil(FORMAT_BLOCK as u64),
        }
    }
}

/// Writes checkpoint bases, one at a time.
pub(crate) struct Checkpointer {
    limit: OnceLock<Limit>,
    bases: Mutex<Bases>,
}

struct Bases {
    io: MetaIo,
    /// The newest base; `None` after metadata was lost, until the first checkpoint.
    newest: Option<BasePlace>,
    /// The highest base sequence seen or tried, usable or not.
    last_sequence: u64,
    /// True if the last attempt failed for lack of space.
    no_space: bool,
}

impl Checkpointer {
    /// A checkpointer of a store with known bases. `last_sequence` is the highest seen, usable or
    /// not.
    pub(crate) fn new(io: MetaIo, newest: Option<BasePlace>, last_sequence: u64) -> Checkpointer {
        Checkpointer {
            limit: OnceLock::new(),
            bases: Mutex::new(Bases {
                io,
                newest,
                last_sequence,
                no_space: false,
            }),
        }
    }

    /// Abandons bases that are not finished within `time` from now, including one in progress. That
    /// does not poison writing: the previous base and the log have everything. Used by a closing
    /// store.
    pub(crate) fn give_up_after(&self, inner: &Inner, time: Duration) {
        self.limit.get_or_init(|| Limit {
            at: inner.options.clock.now().saturating_add(time),
            time,
        });
    }

    /// Its queue.
    pub(crate) fn io(&mut self) -> &mut MetaIo {
        &mut self.bases.get_mut().io
    }

    /// Closes its queue, unless it is working.
    pub(crate) fn release(&self) {
        if let Some(mut bases) = self.bases.try_lock() {
            bases.io.close();
        }
    }

    /// Returns whether a base is being written.
    pub(crate) fn is_busy(&self) -> bool {
        self.bases.is_locked()
    }

    /// The newest base and the last sequence as text; `None` while a base is being written.
    pub(crate) fn state(&self) -> Option<String> {
        let bases = self.bases.try_lock()?;
        Some(format!("{:?}", (&bases.newest, bases.last_sequence)))
    }

    /// Writes a new base.
    ///
    /// # Errors
    /// Every failure except a lack of space poisons writing.
    pub(crate) fn run(&self, inner: &Inner, writer: &Writer) -> Result<(), Error> {
        // A base that is already being written must finish first.
        writer.log.hurry_checkpoint();
        self.run_if(inner, writer, &mut Pace::full(), || true)
    }

    /// Writes a new base if the log has grown enough. Returns whether it did.
    ///
    /// # Errors
    /// Every failure except a lack of space poisons writing.
    pub(crate) fn step(&self, inner: &Inner, writer: &Writer) -> Result<bool, Error> {
        let wanted = writer.log.wants_checkpoint();
        if wanted {
            self.run(inner, writer)?;
        }
        Ok(wanted)
    }

    /// Writes a new base if it is still `wanted` once no other is being written.
    fn run_if(
        &self,
        inner: &Inner,
        writer: &Writer,
        pace: &mut Pace<'_>,
        wanted: impl Fn() -> bool,
    ) -> Result<(), Error> {
        inner.poison.check()?;
        let trace = &inner.counters.trace;
        let span = trace.checkpoint();
        let mut bases = inner.lock_over_io(&self.bases, HeldLock::Checkpointer);
        // Again under the lock: the checkpoint before this one may have failed.
        inner.poison.check()?;
        if !wanted() {
            return Ok(());
        }
        let mut aftermath = Vec::new();
        let limit = &self.limit;
        let timer = inner.timer();
        let written = bases
            .write_base(inner, writer, pace, limit, &mut aftermath)
            .and_then(|()| inner.check_size());
        timer.count(&inner.counters.times.checkpoint);
        let over = |limit: &Limit| limit.check(inner.options.clock.now()).is_err();
        let timed_out = matches!(&written, Err(Error::TimedOut { .. }));
        // Only a timeout of the store that closes; a device that is late poisons writing.
        let gave_up = timed_out && limit.get().is_some_and(over);
        let no_space = matches!(&written, Err(error) if error.is_out_of_space());
        // Retries repeat the failure; the observer is notified of the first.
        let before = std::mem::replace(&mut bases.no_space, no_space);
        let news = no_space && !before;
        if let (Err(error), false) = (&written, no_space || gave_up) {
            inner.poison.set(failed(error));
        }
        // Released before notifying: waiters and observers may call the store and request a
        // checkpoint.
        drop(bases);
        span.end(&written);
        inner.switch(SwitchPoint::CheckpointDone);
        aftermath
            .into_iter()
            .for_each(|commit| commit.notify(inner));
        match written {
            Ok(()) => {
                inner.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                trace.checkpointed();
                Ok(())
            }
            Err(error) => {
                if news || !no_space {
                    trace.checkpoint_failed(&error);
                }
                inner.notify_refused(writer);
                inner.notify_poisoned();
                // A failed flush has poisoned writing, also if its error is a lack of space.
                inner.poison.check()?;
                if news {
                    let what = "checkpoint base";
                    inner.emit(&Event::OutOfSpace { what });
                }
                Err(error)
            }
        }
    }
}

impl Bases {
    fn write_base(
        &mut self,
        inner: &Inner,
        writer: &Writer,
        pace: &mut Pace<'_>,
        limit: &OnceLock<Limit>,
        aftermath: &mut Vec<CommitEffects>,
    ) -> Result<(), Error> {
        let target = self.newest.as_ref().map_or(0, |newest| 1 - newest.region);
        let region = [&inner.superblock.base_a, &inner.superblock.base_b][target].clone();
        let base_sequence = self.last_sequence + 1;
        // Also if this attempt fails: its remains must not pass for parts of the next base.
        self.last_sequence = base_sequence;
        check_writer(&mut self.io, &writer.incarnation)?;
        inner.switch(SwitchPoint::CheckpointBegins);
        // Before the log's position is read: an entry whose record lies behind it leaves after this base has begun.
        inner.index.base_begins();
        let position = writer.log.start_of_checkpoint();
        let mut sections = SectionWriter::new(inner, writer, pace, limit, &region, base_sequence);
        for shard in 0..inner.index.shards() {
            sections.write_shard(&mut self.io, shard)?; // 1
        }
        let (directory, mut place) = sections.write_rest(&mut self.io)?;
        inner.switch(SwitchPoint::CheckpointSections);
        let ticket = writer.log.ticket(); // 2
        // One commit may not be enough: it may only write what an earlier one found no space for.
        while !writer.log.is_durable(ticket) {
            aftermath.push(inner.commit_without_notifying(writer)?);
        }
        let encoded = encode_directory(&directory, &inner.identity, base_sequence);
        let io = &mut self.io;
        let directory_offset = place.write(io, &encoded.bytes, "base directory")?; // 3
        let header = BaseHeader {
            identity: inner.identity,
            base_sequence,
            incarnation: writer.incarnation.number(),
            position,
            generation_floor: writer.generation_floor(),
            recency_now: inner.index.recency_now(),
            entries: directory
                .iter()
                .map(|section| u64::from(section.entries))
                .sum(),
            sections: u32::try_from(directory.len())
                .expect("a base region has room for few sections"),
            directory_offset,
            directory_len: encoded.len,
            directory_checksum: encoded.checksum,
            lifetime: inner.lifetime(),
            bad_blocks: writer.unwritable.lock().bad(),
            bad_slots: writer
                .quarantine
                .lock()
                .bad()
                .iter()
                .copied()
                .take(BAD_SLOTS_MAX)
                .collect(),
        };
        inner.flush(io, failed)?;
        inner.switch(SwitchPoint::CheckpointFlushed);
        check_writer(io, &writer.incarnation)?;
        let mut refused = place.failed;
        refused.extend(write_header(io, &region, &header)?); // 4
        inner.flush(io, failed)?;
        check_writer(io, &writer.incarnation)?;
        inner.save_keeping(io);
        aftermath.push(CommitEffects::of_failed(
            inner.count_failed(writer, refused),
        ));
        inner.switch(SwitchPoint::CheckpointHeader);
        // The former newest base is now the older one: the ring keeps the log from its position.
        let tail = self
            .newest
            .as_ref()
            .map_or(position.sequence, |newest| newest.position);
        let newest = BasePlace::new(target, &header);
        writer.log.retain(Retained {
            tail,
            newest: newest.position,
            base_blocks: newest.blocks,
        });
        self.newest = Some(newest);
        inner.index.base_completed();
        Ok(())
    }
}

/// Writes a header to both its places. Returns the place that the device did not take.
///
/// # Errors
/// The device took neither.
pub(crate) fn write_header(
    io: &mut MetaIo,
    region: &Region,
    header: &BaseHeader,
) -> Result<Option<FailedWrite>, Error> {
    let block = header.encode();
    let places = base_header_offsets(region);
    let mut failed = io.write_each(&places.map(|offset| (offset, &block[..])))?;
    // If one place only lacks space, report that: the header can be written later, so a retry may
    // succeed.
    failed.sort_by_key(|(_, error)| error.is_out_of_space());
    match failed.pop() {
        Some((_, error)) if !failed.is_empty() => Err(error),
        failed => Ok(failed
            .map(|(place, error)| FailedWrite::new("base header", places[place], Some(&error)))),
    }
}

/// Reason for poisoning after a failed checkpoint.
fn failed(error: &Error) -> String {
    format!("the checkpoint failed: {}", error_chain(error))
}

impl Checkpointer {
    /// Runs the store's checkpoint thread until the log stops.
    pub(crate) fn serve(&self, inner: &Inner, writer: &Writer) {
        while writer.log.wait_checkpoint() == Task::Checkpoint {
            // A failure for lack of space is retried; any other has poisoned writing, which stops
            // the log and this loop. The base that a close writes must be the last one: a later one
            // could be torn in a store that is marked as closed.
            let wanted = || writer.log.wants_checkpoint();
            let wait = |time| writer.log.rest_checkpoint(time);
            let clock = inner.options.clock.as_ref();
            let mut pace = Pace::yielding(&inner.lanes.load, clock, &wait);
            if self.run_if(inner, writer, &mut pace, wanted).is_err() {
                writer.log.pause(RETRY);
            }
        }
    }
}
