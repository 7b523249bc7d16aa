//! The first writes of a session, after it has taken the store over.

use rb_format::Superblock;
use rb_io::Engine;

use crate::background::checkpoint::Checkpointer;
use crate::core::writer::Writer;
use crate::error::{Error, OpenError};
use crate::io::meta_io::MetaIo;
use crate::io::superblocks::{Superblocks, check_numbers, repair_superblocks};
use crate::io::unwritable::{FailedWrite, Unwritable};
use crate::log::committer::Committer;
use crate::log::incarnations::Opened;
use crate::log::mend::mend;
use crate::open::open_plan::OpenPlan;
use crate::open::recovered::{Recovered, Taken};
use crate::open::take_over::take_over;

/// Buffer bytes for a commit: a full one, the incarnation blocks, and slack for a split at the
/// ring's end.
const COMMIT_ARENA: usize = 8 << 20;
/// Buffer bytes for a checkpoint: the largest section and the directory.
const CHECKPOINT_ARENA: usize = 64 << 20;

/// A store that is recovered and, for writing, taken over.
pub(crate) struct Begun {
    pub(crate) recovered: Recovered,
    /// `None` if the store is read-only.
    pub(crate) writing: Option<(Writer, Checkpointer)>,
    /// Blocks that the device did not take.
    pub(crate) refused: Vec<FailedWrite>,
}

impl Begun {
    /// A store opened for reading only.
    pub(crate) fn reading(recovered: Recovered) -> Begun {
        Begun {
            recovered,
            writing: None,
            refused: Vec::new(),
        }
    }

    /// Takes a store over for writing.
    pub(crate) fn writing(
        engine: &dyn Engine,
        io: &mut MetaIo,
        opening: &OpenPlan<'_>,
        found: &mut Superblocks,
    ) -> Result<Begun, OpenError> {
        let options = opening.options;
        let Taken {
            mut recovered,
            incarnation,
            mut refused,
        } = take_over(opening, io, found)?;
        recovered.report.openings = incarnation.number();
        recovered.allocate(opening.device, &found.newest);
        let commit_io = MetaIo::of_store(engine, COMMIT_ARENA, 64, options)?;
        let committer = Committer::new(commit_io, options.clock.now());
        let checkpoint_io = MetaIo::of_store(engine, CHECKPOINT_ARENA, 16, options)?;
        repair_copies(io, found, &mut recovered, &mut refused)?;
        recovered.forgive_slots(engine, opening.geometry, options);
        let bases = (recovered.newest.clone(), recovered.base_sequence);
        let checkpointer = Checkpointer::new(checkpoint_io, bases.0, bases.1);
        let writer = writer(
            &found.newest,
            incarnation,
            &mut recovered,
            &refused,
            committer,
            opening.geometry.slots(),
        );
        Ok(Begun {
            recovered,
            writing: Some((writer, checkpointer)),
            refused,
        })
    }
}

/// Repairs what a crash left. Appends the blocks that the device did not take to `refused`.
fn repair_copies(
    io: &mut MetaIo,
    found: &Superblocks,
    recovered: &mut Recovered,
    refused: &mut Vec<FailedWrite>,
) -> Result<(), OpenError> {
    let superblock: &Superblock = &found.newest;
    let failed = |what| move |source: Error| OpenError::Io { what, source };
    check_numbers(&[
        ("log sequence", recovered.end.sequence),
        ("base sequence", recovered.base_sequence),
    ])?;
    let failed_repair = failed("repairing the superblock");
    let (repaired, unwritten) = repair_superblocks(io, found).map_err(&failed_repair)?;
    if repaired {
        io.flush().map_err(&failed_repair)?;
    }
    recovered.report.superblock_repaired |= repaired;
    refused.extend(unwritten);
    // The first log block of this session will name everything before it as durable, so both copies
    // must exist first.
    let mended = mend(io, superblock, &recovered.copies, &recovered.header_copies)
        .map_err(failed("writing again what was in one place only"))?;
    recovered.report.copies_rewritten = mended.rewritten;
    recovered.report.copies_unwritten = mended.failed + refused.len() as u64;
    Ok(())
}

/// Creates the write side of the store; its log continues at the end that recovery found.
fn writer(
    superblock: &Superblock,
    incarnation: Opened,
    recovered: &mut Recovered,
    refused: &[FailedWrite],
    committer: Committer,
    slots: u32,
) -> Writer {
    let mut unwritable = Unwritable::new(std::mem::take(&mut recovered.bad_blocks));
    // A lack of space does not make a block bad.
    for refused in refused.iter().filter(|refused| !refused.no_space) {
        // If the base header has no room for it, the next session finds the block again.
        let _ = unwritable.add_bad(refused.offset);
    }
    Writer::new(
        superblock,
        incarnation,
        committer,
        recovered.end,
        recovered.retained(),
        unwritable,
        recovered.take_quarantine(slots),
    )
}
