//! Inspection: shows any structure of a device field by field, valid or not, with the verdict of
//! its decoder.
//!
//! It never writes and takes no lock, so a store in use is shown as it is at that moment.

mod foreign;
mod log;
mod look;
mod structure;

use rb_format::{FORMAT_BLOCK, Geometry, Superblock};
use rb_io::{Access, Engine, EngineKind};

use foreign::name_foreign;
use structure::Look;
pub use structure::{Inspected, Side, Target};

use crate::check::audit::AuditOptions;
use crate::error::OpenError;
use crate::error::error_chain;
use crate::io::meta_io::{BOOT_ARENA, MetaIo};
use crate::io::superblocks::{choose_superblock, read_copies};
use crate::open::checks::{check_capacity, check_features};
use crate::open::opened::Opened;
use crate::open::sessions::read_openings;
use crate::source::Source;

/// Shows a structure of the store on a device, in a file or behind an engine. `engine` is the
/// engine for a device or file.
///
/// # Errors
/// The device cannot be opened or does not respond; no superblock is usable and the structure is
/// not at a fixed place; the slot or key does not exist.
pub fn inspect(
    source: impl Into<Source>,
    engine: EngineKind,
    target: &Target,
) -> Result<Vec<Inspected>, OpenError> {
    inspect_opened(
        &Opened::new(source.into(), Access::ReadOnly, engine)?,
        target,
    )
}

/// Reads both superblock copies through an engine. An unusable copy is returned as a description of
/// the fault.
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

fn inspect_opened(source: &Opened, target: &Target) -> Result<Vec<Inspected>, OpenError> {
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
    // The epoch in force decides which structures are valid.
    read_openings(&mut io, &copies, &mut found)?;
    drop(copies);
    check_features(&source.path, &found.newest, true)?;
    let geometry = Geometry::new(&found.newest);
    let mut look = Look {
        io,
        superblock: &found.newest,
        geometry: &geometry,
        capacity,
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
