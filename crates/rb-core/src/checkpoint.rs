//! A new checkpoint base, written while traffic runs.
//!
//! The snapshot is fuzzy: shard by shard, a bounded number of entries per hold of a lock. A record
//! queued before a shard's hold is in its snapshot; one queued later is in the log at or after the
//! position that was read in that hold. So base plus log from the first position is everything.
//!
//! Order of writes, and why:
//! 1. sections into the region that the newest base does not live in: the newest stays whole;
//! 2. a commit: the log up to the base's position is durable before the base can be chosen, so that
//!    the older base remains a full way to recover;
//! 3. directory, flush: what the header will name is there;
//! 4. header, flush: from here on this base is the newest.
//!
//! Only then may the ring forget what only the base before the former newest needed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rb_format::{
    BAD_SLOTS_MAX, BaseEntry, BaseHeader, Compression, DirectoryEntry, FORMAT_BLOCK, Generation,
    LifetimeCounters, MoreSlots, Region, SECTION_RANGES, SECTION_RAW_MIN, SectionBuilder,
    encode_directory, section_range,
};
use rb_index::{Cursor, SnapshotEntry, Visit};

use crate::base_load::limits_of;
use crate::commit::{Aftermath, check_writer, words};
use crate::error::Error;
use crate::inner::{Inner, Writer};
use crate::meta_io::MetaIo;
use crate::simulator::{HeldLock, SwitchPoint};
use crate::stats::raise;

/// Entries copied per hold of a shard's lock: some 15 us with 32-byte keys.
const ENTRIES_PER_HOLD: usize = 64;

/// zstd's fastest regular level: base entries are mostly incompressible keys and checksums, and
/// higher levels gain little for several times the CPU.
const COMPRESSION: Compression = Compression::Zstd { level: 1 };

/// Bytes that unfinished sections hold together: the largest of more than this is no smaller than the smallest
/// that a base region is sized for.
const OPEN_SECTIONS_MAX: usize = SECTION_RANGES * SECTION_RAW_MIN;

/// How fast a checkpoint is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As fast as it can be: somebody waits for it.
    Full,
    /// With rests between the sections, while the log has room: those who use the store meanwhile share cores and
    /// device with it.
    Gentle,
}

/// A gentle checkpoint rests this many times as long as it works.
const REST: u32 = 9;

/// The longest rest, so that a device that is slow just now does not stretch a checkpoint without end.
const REST_MAX: Duration = Duration::from_millis(100);

/// Which base is where.
#[derive(Clone, Debug)]
pub(crate) struct BasePlace {
    /// Which of the two regions.
    pub(crate) region: usize,
    pub(crate) position: u64,
}

pub(crate) struct Checkpointer {
    pub(crate) io: MetaIo,
    /// The newest base; none after metadata was lost, until the first checkpoint.
    pub(crate) newest: Option<BasePlace>,
    /// The highest base sequence seen, whether or not that base was usable.
    pub(crate) last_sequence: u64,
}

impl Inner {
    /// Writes a new base.
    ///
    /// # Errors
    /// Any failure poisons writing.
    pub(crate) fn checkpoint(&self, writer: &Writer) -> Result<(), Error> {
        // One that is being written now comes first.
        writer.log.hurry_checkpoint();
        self.checkpoint_if(writer, Pace::Full, || true)
    }

    /// Writes a new base if it is `wanted` once no other is being written.
    fn checkpoint_if(
        &self,
        writer: &Writer,
        pace: Pace,
        wanted: impl Fn() -> bool,
    ) -> Result<(), Error> {
        self.poison.check()?;
        let mut checkpointer = self.lock_over_io(&writer.checkpointer, HeldLock::Checkpointer);
        self.poison.check()?;
        if !wanted() {
            return Ok(());
        }
        let mut aftermath = Vec::new();
        let written = self.write_base(writer, pace, &mut checkpointer, &mut aftermath);
        if let Err(error) = &written {
            self.poison.set(failed(error));
        }
        // Who is told may call the store, and ask for a checkpoint.
        drop(checkpointer);
        self.switch(SwitchPoint::CheckpointDone);
        aftermath.into_iter().for_each(|commit| commit.tell(self));
        match written {
            Ok(()) => {
                self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => {
                self.tell_poisoned();
                self.poison.check()
            }
        }
    }

    fn write_base(
        &self,
        writer: &Writer,
        pace: Pace,
        checkpointer: &mut Checkpointer,
        aftermath: &mut Vec<Aftermath>,
    ) -> Result<(), Error> {
        let target = checkpointer
            .newest
            .as_ref()
            .map_or(0, |newest| 1 - newest.region);
        let region = [&self.superblock.base_a, &self.superblock.base_b][target].clone();
        let base_sequence = checkpointer.last_sequence + 1;
        check_writer(&mut checkpointer.io, &writer.incarnation)?;
        self.switch(SwitchPoint::CheckpointBegins);
        let position = writer.log.start_of_checkpoint();
        let mut sections = SectionWriter {
            inner: self,
            writer,
            pace,
            rested: Instant::now(),
            region: &region,
            base_sequence,
            next: region.offset + FORMAT_BLOCK as u64,
            open: (0..SECTION_RANGES).map(|_| None).collect(),
            directory: Vec::new(),
        };
        for shard in 0..self.index.shards() {
            sections.write_shard(&mut checkpointer.io, shard)?; // 1
        }
        sections.write_rest(&mut checkpointer.io)?;
        let SectionWriter {
            next: directory_at,
            directory,
            ..
        } = sections;
        self.switch(SwitchPoint::CheckpointSections);
        let ticket = writer.log.ticket(); // 2
        while !writer.log.is_durable(ticket) {
            aftermath.push(self.commit_untold(writer)?);
        }
        let encoded = encode_directory(&directory, &self.identity, base_sequence);
        let header = BaseHeader {
            identity: self.identity,
            base_sequence,
            incarnation: writer.incarnation.number,
            position,
            generation_floor: writer.generation_floor(),
            recency_now: self.index.recency_now(),
            entries: directory
                .iter()
                .map(|section| u64::from(section.entries))
                .sum(),
            sections: u32::try_from(directory.len()).unwrap_or(u32::MAX),
            directory_offset: directory_at - region.offset,
            directory_len: encoded.len,
            directory_checksum: encoded.checksum,
            lifetime: LifetimeCounters::default(),
            bad_blocks: Vec::new(),
            bad_slots: writer
                .quarantine
                .lock()
                .bad()
                .iter()
                .copied()
                .take(BAD_SLOTS_MAX)
                .collect(),
        };
        room(&region, directory_at, encoded.bytes.len())?;
        let io = &mut checkpointer.io;
        if !encoded.bytes.is_empty() {
            io.write(directory_at, &encoded.bytes)?; // 3
        }
        self.flush(io, failed)?;
        self.switch(SwitchPoint::CheckpointFlushed);
        check_writer(io, &writer.incarnation)?;
        io.write(region.offset, &header.encode()[..])?; // 4
        self.flush(io, failed)?;
        self.switch(SwitchPoint::CheckpointHeader);
        let tail = checkpointer
            .newest
            .as_ref()
            .map_or(position.sequence, |newest| newest.position);
        checkpointer.newest = Some(BasePlace {
            region: target,
            position: position.sequence,
        });
        checkpointer.last_sequence = base_sequence;
        writer.log.retain(tail, position.sequence);
        Ok(())
    }
}

fn base_entry<'a>(entry: &SnapshotEntry<'a>) -> BaseEntry<'a> {
    BaseEntry {
        key: entry.key,
        metadata: entry.metadata,
        key_hash: entry.hash,
        slot: entry.located.slot.0,
        more: MoreSlots::NONE,
        generation: Generation(entry.located.generation),
        payload_len: entry.located.payload_len,
        payload_checksum: entry.located.payload_checksum,
        placement: entry.located.placement,
        policy: 0,
        expiry: 0,
        recency: entry.recency,
    }
}

/// Why writing stops after a checkpoint that failed.
fn failed(error: &Error) -> String {
    format!("the checkpoint failed: {}", words(error))
}

/// A base is sized for every slot at the longest key, so running out of room is a bug; it must
/// still not write past the region.
fn room(region: &Region, at: u64, len: usize) -> Result<(), Error> {
    if at + len as u64 > region.offset + region.bytes {
        let why = format!(
            "{} bytes at byte {at} of a region of {} bytes",
            len, region.bytes
        );
        return Err(Error::Resource {
            what: "space for a checkpoint base",
            why,
        });
    }
    Ok(())
}

struct SectionWriter<'a> {
    inner: &'a Inner,
    writer: &'a Writer,
    pace: Pace,
    /// When the last rest ended.
    rested: Instant,
    region: &'a Region,
    base_sequence: u64,
    next: u64,
    /// The section of each hash range that still takes entries.
    open: Vec<Option<SectionBuilder>>,
    directory: Vec<DirectoryEntry>,
}

impl SectionWriter<'_> {
    /// Copies one shard in bounded holds of its lock and writes each section as it fills.
    fn write_shard(&mut self, io: &mut MetaIo, shard: usize) -> Result<(), Error> {
        let log = &self.writer.log;
        let limits = limits_of(&self.inner.superblock);
        let mut cursor = Cursor::default();
        let mut more = true;
        while more {
            let mut full = Vec::new();
            // Not under the lock: growing by megabytes takes a millisecond.
            for open in self.open.iter_mut().flatten() {
                open.reserve(ENTRIES_PER_HOLD, limits);
            }
            {
                let mut guard = self.inner.index.lock(shard, Visit::Background);
                let held = Instant::now();
                let position = log.position();
                let open = &mut self.open;
                let mut copy = |entry: SnapshotEntry<'_>| {
                    let entry = base_entry(&entry);
                    let range = section_range(entry.key_hash);
                    let new_section = || SectionBuilder::new(range, position);
                    let open = open[range].get_or_insert_with(new_section);
                    if !open.push(&entry) {
                        full.push(std::mem::replace(open, new_section()));
                        let taken = open.push(&entry);
                        debug_assert!(taken, "an empty section takes any entry");
                    }
                };
                more = guard.snapshot(&mut cursor, ENTRIES_PER_HOLD, &mut copy);
                if !more {
                    // An observer has not been notified of these evictions: the base must not make them durable.
                    guard.snapshot_evicted(&mut copy);
                }
                raise(&self.inner.counters.longest_snapshot_hold, held.elapsed());
                guard.step_aside();
            }
            self.inner.switch(SwitchPoint::CheckpointCopied);
            while self.open_bytes() > OPEN_SECTIONS_MAX {
                let largest = self.open.iter_mut().max_by_key(|open| bytes_of(open));
                full.extend(largest.and_then(Option::take));
            }
            for section in full {
                self.write_section(io, section)?;
            }
        }
        Ok(())
    }

    /// Writes the sections that still took entries.
    fn write_rest(&mut self, io: &mut MetaIo) -> Result<(), Error> {
        for range in 0..self.open.len() {
            if let Some(section) = self.open[range].take() {
                self.write_section(io, section)?;
            }
        }
        Ok(())
    }

    fn open_bytes(&self) -> usize {
        self.open.iter().map(bytes_of).sum()
    }

    fn write_section(&mut self, io: &mut MetaIo, section: SectionBuilder) -> Result<(), Error> {
        let number = u32::try_from(self.directory.len()).unwrap_or(u32::MAX);
        let (mut entry, bytes) = section.finish(
            &self.inner.identity,
            self.base_sequence,
            number,
            COMPRESSION,
        );
        room(self.region, self.next, bytes.len())?;
        entry.offset = self.next - self.region.offset;
        io.write(self.next, &bytes)?;
        self.next += bytes.len() as u64;
        self.directory.push(entry);
        if self.pace == Pace::Gentle {
            let worked = self.rested.elapsed();
            self.writer.log.rest((worked * REST).min(REST_MAX));
            self.rested = Instant::now();
        }
        Ok(())
    }
}

fn bytes_of(section: &Option<SectionBuilder>) -> usize {
    section.as_ref().map_or(0, SectionBuilder::raw_len)
}

/// The checkpoint duty of the store's own threads: until the log stops.
pub(crate) fn run(inner: &Arc<Inner>) {
    let Some(writer) = &inner.writer else { return };
    while writer.log.wait_checkpoint() == crate::log::Duty::Checkpoint {
        // A failure has poisoned writing, which stops the log and so this loop. The base that closing
        // writes is the last: one begun behind it could be torn in a store that is marked as closed.
        let wanted = || writer.log.wants_checkpoint();
        drop(inner.checkpoint_if(writer, Pace::Gentle, wanted));
    }
}
