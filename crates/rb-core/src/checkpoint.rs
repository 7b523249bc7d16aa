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
//! 4. the header in both its places, flush: from here on this base is the newest.
//!
//! Only then may the ring forget what only the base before the former newest needed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rb_format::{
    BAD_SLOTS_MAX, BaseHeader, LifetimeCounters, Region, base_header_offsets, encode_directory,
};

use crate::base_write::SectionWriter;
use crate::commit::{Aftermath, words};
use crate::error::Error;
use crate::incarnations::check_writer;
use crate::inner::{Inner, Writer};
use crate::meta_io::MetaIo;
use crate::simulator::{HeldLock, SwitchPoint};
use crate::unwritable::FailedWrite;

/// How fast a checkpoint is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as it can be: somebody waits for it.
    Full,
    /// With rests between the sections, while the log has room: those who use the store meanwhile share cores and
    /// device with it.
    Gentle,
}

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
        let written = self
            .write_base(writer, pace, &mut checkpointer, &mut aftermath)
            .and_then(|()| self.check_size());
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
        let mut sections = SectionWriter::new(self, writer, pace, &region, base_sequence);
        for shard in 0..self.index.shards() {
            sections.write_shard(&mut checkpointer.io, shard)?; // 1
        }
        let (directory, mut place) = sections.write_rest(&mut checkpointer.io)?;
        self.switch(SwitchPoint::CheckpointSections);
        let ticket = writer.log.ticket(); // 2
        while !writer.log.is_durable(ticket) {
            aftermath.push(self.commit_untold(writer)?);
        }
        let encoded = encode_directory(&directory, &self.identity, base_sequence);
        let io = &mut checkpointer.io;
        let directory_offset = place.write(io, &encoded.bytes, "base directory")?; // 3
        let header = BaseHeader {
            identity: self.identity,
            base_sequence,
            incarnation: writer.incarnation.number(),
            position,
            generation_floor: writer.generation_floor(),
            recency_now: self.index.recency_now(),
            entries: directory
                .iter()
                .map(|section| u64::from(section.entries))
                .sum(),
            sections: u32::try_from(directory.len()).unwrap_or(u32::MAX),
            directory_offset,
            directory_len: encoded.len,
            directory_checksum: encoded.checksum,
            lifetime: LifetimeCounters::default(),
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
        self.flush(io, failed)?;
        self.switch(SwitchPoint::CheckpointFlushed);
        check_writer(io, &writer.incarnation)?;
        let mut refused = place.failed;
        refused.extend(write_header(io, &region, &header)?); // 4
        self.flush(io, failed)?;
        check_writer(io, &writer.incarnation)?;
        aftermath.push(Aftermath::of_failed(self.count_failed(writer, refused)));
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

/// Writes a header to both its places. Answers the one that the device did not take.
///
/// # Errors
/// It took neither.
pub(crate) fn write_header(
    io: &mut MetaIo,
    region: &Region,
    header: &BaseHeader,
) -> Result<Option<FailedWrite>, Error> {
    let block = header.encode();
    let places = base_header_offsets(region);
    let mut failed = io.write_each(&places.map(|offset| (offset, &block[..])))?;
    match failed.pop() {
        Some((_, error)) if !failed.is_empty() => Err(error),
        failed => Ok(failed.map(|(place, _)| FailedWrite {
            what: "base header",
            offset: places[place],
        })),
    }
}

/// Why writing stops after a checkpoint that failed.
fn failed(error: &Error) -> String {
    format!("the checkpoint failed: {}", words(error))
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
