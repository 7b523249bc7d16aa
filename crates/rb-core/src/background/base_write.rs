//! Writes the sections of a checkpoint base and places them in the region.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rb_format::{
    BaseEntry, Compression, DirectoryEntry, FORMAT_BLOCK, Generation, MoreSlots, Region,
    SECTION_RANGES, SECTION_RAW_MIN, SectionBuilder, StoreUuid, key_hash, section_range,
};
use rb_index::{Cursor, LockPurpose, SnapshotEntry};

use crate::clock::Clock;
use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::counters::raise;
use crate::error::Error;
use crate::io::headers::limits_of;
use crate::io::meta_io::MetaIo;
use crate::io::pace::{Pace, TURN_BYTES};
use crate::io::unwritable::FailedWrite;
use crate::log::incarnations::check_writer;
use crate::simulator::SwitchPoint;

/// Entries copied per hold of a shard's lock: about 15 us with 32-byte keys.
const ENTRIES_PER_HOLD: usize = 64;

/// zstd's fastest regular level. Base entries are mostly incompressible keys and checksums, so
/// higher levels gain little for several times the CPU time.
const COMPRESSION: Compression = Compression::Zstd { level: 1 };

/// Most bytes that open sections hold together. Above it the largest is written; it is at least as
/// large as the smallest section that a base region is sized for.
const OPEN_SECTIONS_MAX: usize = SECTION_RANGES * SECTION_RAW_MIN;

/// Longest time for which sections are written without checking for other writers.
const LOOK_AFTER: Duration = Duration::from_millis(1);

/// Deadline after which an unfinished base is abandoned.
#[derive(Debug)]
pub(crate) struct Limit {
    /// By the store's clock.
    pub(crate) at: Duration,
    /// The duration that ends at `at`.
    pub(crate) time: Duration,
}

impl Limit {
    pub(crate) fn check(&self, now: Duration) -> Result<(), Error> {
        let waited = self.time;
        match now < self.at {
            true => Ok(()),
            false => Err(Error::TimedOut { waited }),
        }
    }
}

pub(crate) struct SectionWriter<'a, 'p> {
    inner: &'a Inner,
    writer: &'a Writer,
    place: RegionWriter<'a, 'p>,
    base_sequence: u64,
    /// The open section of each hash range.
    open: Vec<Option<SectionBuilder>>,
    directory: Vec<DirectoryEntry>,
}

impl<'a, 'p> SectionWriter<'a, 'p> {
    pub(crate) fn new(
        inner: &'a Inner,
        writer: &'a Writer,
        pace: &'a mut Pace<'p>,
        limit: &'a OnceLock<Limit>,
        region: &'a Region,
        base_sequence: u64,
    ) -> SectionWriter<'a, 'p> {
        pace.begin();
        SectionWriter {
            inner,
            writer,
            place: RegionWriter {
                writer,
                pace,
                limit,
                clock: inner.options.clock.as_ref(),
                looked: inner.options.clock.now(),
                region,
                next: region.offset + FORMAT_BLOCK as u64,
                failed: Vec::new(),
            },
            base_sequence,
            open: (0..SECTION_RANGES).map(|_| None).collect(),
            directory: Vec::new(),
        }
    }

    /// Copies one shard in bounded holds of its lock and writes each section that fills up.
    pub(crate) fn write_shard(&mut self, io: &mut MetaIo, shard: usize) -> Result<(), Error> {
        let log = &self.writer.log;
        let limits = limits_of(&self.inner.superblock);
        let mut cursor = Cursor::default();
        let mut more = true;
        while more {
            let mut full = Vec::new();
            // Outside the lock: growing by megabytes takes a millisecond.
            for open in self.open.iter_mut().flatten() {
                open.reserve(ENTRIES_PER_HOLD, limits);
            }
            {
                let mut guard = self.inner.index.lock(shard, LockPurpose::Background);
                let held = Instant::now();
                // Under the shard's lock: each earlier record of this shard is in the copy.
                let position = log.position();
                let open = &mut self.open;
                let mut copy = |entry: SnapshotEntry<'_>| {
                    let more: Vec<u32> = entry.more.clone().map(|slot| slot.0).collect();
                    let entry = base_entry(&entry, &more, self.inner.identity.uuid);
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
                    // The observer does not know of these evictions yet, so the base must not make
                    // them durable.
                    guard.snapshot_evicted(&mut copy);
                }
                raise(&self.inner.counters.longest_snapshot_hold, held.elapsed());
                // Callers that wait for the shard go first.
                guard.step_aside();
            }
            self.inner.switch(SwitchPoint::CheckpointCopied);
            // Bound the memory of a checkpoint: hash ranges fill evenly, so without this all
            // sections would be open until the end.
            while self.open_bytes() > OPEN_SECTIONS_MAX {
                let largest = self
                    .open
                    .iter_mut()
                    .max_by_key(|open| bytes_of(open.as_ref()));
                full.extend(largest.and_then(Option::take));
            }
            for section in full {
                self.write_section(io, section)?;
            }
        }
        Ok(())
    }

    /// Writes the open sections. Returns the directory and the writer for the rest of the region.
    pub(crate) fn write_rest(
        mut self,
        io: &mut MetaIo,
    ) -> Result<(Vec<DirectoryEntry>, RegionWriter<'a, 'p>), Error> {
        for range in 0..self.open.len() {
            if let Some(section) = self.open[range].take() {
                self.write_section(io, section)?;
            }
        }
        Ok((self.directory, self.place))
    }

    fn open_bytes(&self) -> usize {
        self.open.iter().map(|open| bytes_of(open.as_ref())).sum()
    }

    fn write_section(&mut self, io: &mut MetaIo, section: SectionBuilder) -> Result<(), Error> {
        let number =
            u32::try_from(self.directory.len()).expect("a base region has room for few sections");
        let (mut entry, bytes) = section.finish(
            &self.inner.identity,
            self.base_sequence,
            number,
            COMPRESSION,
        );
        // Copying and compressing count as a turn, too, because they compete with callers for
        // cores.
        self.place.pace.rest();
        entry.offset = self.place.write(io, &bytes, "base section")?;
        self.directory.push(entry);
        Ok(())
    }
}

fn bytes_of(section: Option<&SectionBuilder>) -> usize {
    section.map_or(0, SectionBuilder::raw_len)
}

fn base_entry<'a>(entry: &SnapshotEntry<'a>, more: &'a [u32], uuid: StoreUuid) -> BaseEntry<'a> {
    BaseEntry {
        key: entry.key,
        metadata: entry.metadata,
        key_hash: key_hash(&uuid, entry.key),
        slot: entry.located.slot.0,
        more: MoreSlots::from(more),
        generation: Generation(entry.located.generation),
        payload_len: entry.located.payload_len,
        payload_checksum: entry.located.payload_checksum,
        placement: entry.located.placement,
        policy: entry.note.0,
        expiry: entry.located.expiry,
        recency: entry.recency,
    }
}

/// Writes a base region from start to end, skipping blocks that the device does not take.
pub(crate) struct RegionWriter<'a, 'p> {
    writer: &'a Writer,
    pace: &'a mut Pace<'p>,
    clock: &'a dyn Clock,
    /// Deadline of the base; set if the store is closing.
    limit: &'a OnceLock<Limit>,
    /// Time of the last check of the incarnation blocks.
    looked: Duration,
    region: &'a Region,
    next: u64,
    /// Blocks that the device did not take.
    pub(crate) failed: Vec<FailedWrite>,
}

impl RegionWriter<'_, '_> {
    /// Writes whole blocks at the next place where the device takes them. Returns their offset in
    /// the region.
    ///
    /// # Errors
    /// The region is full, or has more bad blocks than a header can list. Every retry has found
    /// another bad block, so this also bounds the retries.
    pub(crate) fn write(
        &mut self,
        io: &mut MetaIo,
        bytes: &[u8],
        what: &'static str,
    ) -> Result<u64, Error> {
        let len = bytes.len() as u64;
        loop {
            let unwritable = &self.writer.unwritable;
            let at = unwritable.lock().place(self.region, self.next, len);
            room(self.region, at, len)?;
            let written = match bytes.is_empty() {
                true => Ok(()),
                false => self.write_in_turns(io, at, bytes),
            };
            match written {
                Ok(()) => {
                    self.next = at + len;
                    return Ok(at - self.region.offset);
                }
                Err(error) if !error.is_damage() || error.is_out_of_space() => return Err(error),
                Err(error) => {
                    for offset in bad_blocks(io, at, bytes)? {
                        if !unwritable.lock().add_bad(offset) {
                            return Err(error);
                        }
                        self.failed
                            .push(FailedWrite::new(what, offset, Some(&error)));
                    }
                }
            }
        }
    }
}

impl RegionWriter<'_, '_> {
    fn write_in_turns(&mut self, io: &mut MetaIo, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < bytes.len() {
            // A checkpoint may take minutes. If another session takes over in the meantime, it
            // would overwrite that session's base.
            let now = self.clock.now();
            self.limit.get().map_or(Ok(()), |limit| limit.check(now))?;
            if now.saturating_sub(self.looked) >= LOOK_AFTER {
                check_writer(io, &self.writer.incarnation)?;
                self.looked = now;
            }
            let left = bytes.len() - done;
            let len = match self.pace.yields() {
                true => left.min(TURN_BYTES),
                false => left,
            };
            io.write(at + done as u64, &bytes[done..done + len])?;
            done += len;
            self.pace.rest();
        }
        Ok(())
    }
}

/// Returns the blocks of a failed write that the device does not take; the first one if it takes
/// each of them alone.
fn bad_blocks(io: &mut MetaIo, at: u64, bytes: &[u8]) -> Result<Vec<u64>, Error> {
    let offsets = (at..).step_by(FORMAT_BLOCK);
    let writes: Vec<_> = offsets.zip(bytes.chunks_exact(FORMAT_BLOCK)).collect();
    let failed = io.write_each(&writes)?;
    if let Some((_, no_space)) = failed.iter().find(|(_, error)| error.is_out_of_space()) {
        return Err(no_space.clone());
    }
    let bad = failed.iter().map(|(number, _)| writes[*number].0);
    Ok(match failed.is_empty() {
        true => vec![at],
        false => bad.collect(),
    })
}

/// Checks that a write stays inside the region, whose last block is the second header's. A base
/// region has space for every slot at the longest key, so a failure is a bug, or the region has too
/// many bad blocks.
fn room(region: &Region, at: u64, len: u64) -> Result<(), Error> {
    if at + len > region.offset + region.bytes - FORMAT_BLOCK as u64 {
        let why = format!(
            "{len} bytes at byte {at} of a region of {} bytes",
            region.bytes
        );
        return Err(Error::Resource {
            what: "space for a checkpoint base",
            why,
        });
    }
    Ok(())
}
