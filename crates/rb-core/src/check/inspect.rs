//! Inspection: any structure of a device field by field, sound or not, with what its decoder says.
//!
//! It never writes, and takes no lock: it also looks at a store in use, as it is at that moment.

mod log;
mod look;
mod structure;

use std::path::Path;
use std::sync::Arc;

use rb_format::{FORMAT_BLOCK, Geometry, Superblock};
use rb_io::{Access, Engine, EngineKind};

use structure::Look;
pub use structure::{Inspected, Side, Target};

use crate::check::audit::AuditOptions;
use crate::error::OpenError;
use crate::error::error_chain;
use crate::io::boot::{choose_superblock, read_copies};
use crate::io::meta_io::{BOOT_ARENA, MetaIo};
use crate::io::placed::Placed;
use crate::io::whose;
use crate::log::incarnations::read_pair;
use crate::open::checks::{check_capacity, check_features};
use crate::open::openings::read_openings;
use crate::open::source::{Source, open_path};

/// Shows a structure of the store at `path`.
///
/// # Errors
/// The device cannot be opened or does not answer; no superblock serves and the structure is not at a
/// fixed place; there is no such slot or key.
pub fn inspect(
    path: impl AsRef<Path>,
    engine: EngineKind,
    target: &Target,
) -> Result<Vec<Inspected>, OpenError> {
    inspect_source(&open_path(path.as_ref(), Access::ReadOnly, engine)?, target)
}

/// Shows a structure of what an engine reaches; for simulated devices.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_engine(
    engine: Arc<dyn Engine>,
    target: &Target,
) -> Result<Vec<Inspected>, OpenError> {
    inspect_source(&Source::of_engine(engine), target)
}

/// Both superblock copies, or in words why one is of no use, read through an engine.
pub fn superblock_copies(engine: &dyn Engine) -> [Result<Superblock, String>; 2] {
    let deadline = AuditOptions::default().io_deadline;
    match MetaIo::new(engine, 4 * FORMAT_BLOCK, 2, deadline) {
        Ok(mut io) => read_copies(&mut io, engine.capacity_bytes()).map(|copy| {
            let unreadable = copy.unreadable.as_ref().map(|why| error_chain(why));
            copy.decoded
                .map_err(|why| unreadable.unwrap_or_else(|| why.to_string()))
        }),
        Err(error) => [Err(error_chain(&error)), Err(error_chain(&error))],
    }
}

fn inspect_source(source: &Source, target: &Target) -> Result<Vec<Inspected>, OpenError> {
    let defaults = AuditOptions::default();
    let engine = source.engine.as_ref();
    let capacity = engine.capacity_bytes();
    let mut io = MetaIo::new(engine, BOOT_ARENA, 16, defaults.io_deadline).map_err(|source| {
        let what = "opening a queue";
        OpenError::Io { what, source }
    })?;
    let copies = read_copies(&mut io, capacity);
    if let Target::Superblock(side) = target {
        let mut shown = look::superblocks(&copies, *side);
        name_foreign(&mut shown, &mut io, capacity, &copies)?;
        return Ok(shown);
    }
    let mut found = choose_superblock(&mut io, &copies, &source.path, capacity)?;
    check_capacity(&source.path, &found.newest, capacity, true)?;
    read_openings(&mut io, &copies, &mut found)?;
    drop(copies);
    check_features(&source.path, &found.newest, true)?;
    let geometry = Geometry::new(&found.newest);
    let mut look = Look {
        io,
        superblock: &found.newest,
        geometry: &geometry,
    };
    match target {
        Target::Superblock(_) => Ok(Vec::new()),
        Target::Incarnation(side) => {
            let mut shown = look.incarnations(*side)?;
            let copies = read_copies(&mut look.io, capacity);
            name_foreign(&mut shown, &mut look.io, capacity, &copies)?;
            Ok(shown)
        }
        Target::Base(side) => look.bases(*side),
        Target::Log => look.log(),
        Target::LogBlock(sequence) => look.log_block(*sequence),
        Target::Slot(slot) => look.slot(*slot).map(|slot| vec![slot]),
        Target::Key(key) => look.key(key).map(|slot| vec![slot]),
    }
}

/// Notes what belongs to another program: with the structure in whose place it is, else with the last one.
fn name_foreign(
    shown: &mut [Inspected],
    io: &mut MetaIo,
    capacity: u64,
    copies: &[Placed<Superblock>; 2],
) -> Result<(), OpenError> {
    let failed = |source| {
        let what = "looking at the unused areas";
        OpenError::Io { what, source }
    };
    let newest = copies
        .iter()
        .filter_map(|copy| copy.decoded.as_ref().ok())
        .max_by_key(|found| found.sequence);
    let found = match newest {
        Some(newest) => {
            let blocks = read_pair(io, &newest.identity).map_err(failed)?;
            whose::look(io, capacity, newest, copies, &blocks).map_err(failed)?
        }
        None => whose::all_signatures(io, capacity).map_err(failed)?,
    };
    for foreign in found {
        let is_in = |part: &Inspected| {
            (part.offset..part.offset + FORMAT_BLOCK as u64).contains(&foreign.offset)
        };
        let place = shown
            .iter()
            .position(is_in)
            .unwrap_or(shown.len().saturating_sub(1));
        if let Some(part) = shown.get_mut(place) {
            part.notes.push(format!("the device carries {foreign}"));
        }
    }
    Ok(())
}
