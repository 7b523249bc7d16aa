//! Inspection: any structure of a device field by field, sound or not, with what its decoder says.
//!
//! It never writes, and takes no lock: it also looks at a store in use, as it is at that moment.

mod log;
mod look;

use std::path::Path;
use std::sync::Arc;

use rb_format::{Corruption, FORMAT_BLOCK, FieldText, Geometry, Structure, Superblock, describe};
use rb_io::{Access, Engine, EngineKind};

use crate::check::audit::AuditOptions;
use crate::error::OpenError;
use crate::error::error_chain;
use crate::io::boot::{check_size, choose_superblock, read_copies};
use crate::io::meta_io::MetaIo;
use crate::io::placed::Placed;
use crate::io::whose;
use crate::log::incarnations::read_pair;
use crate::open::cut;
use crate::open::take_over::read_openings;
use crate::open::{BOOT_ARENA, Source, check_features, open_path};

/// Which of two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The superblock copies, or one of them.
    Superblock(Option<Side>),
    /// The incarnation blocks, or one of them.
    Incarnation(Option<Side>),
    /// The checkpoint bases, or one: header, directory, and the header of each section.
    Base(Option<Side>),
    /// The blocks of the log since the newest base.
    Log,
    /// One log block with its records, by its sequence, in both rings.
    LogBlock(u64),
    /// A slot's header, by the slot's number.
    Slot(u32),
    /// The header of the slot that a key is in.
    Key(Vec<u8>),
}

/// A structure as it is on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// What it is.
    pub title: String,
    /// Its first byte on the device. The offsets of the fields count from here.
    pub offset: u64,
    /// Its fields; none if it could not be read.
    pub fields: Vec<FieldText>,
    /// Why its decoder refuses it; none if it is sound.
    pub refused: Option<String>,
    /// What else there is to say of it.
    pub notes: Vec<String>,
}

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

/// A store to look into.
struct Look<'a> {
    io: MetaIo,
    superblock: &'a Superblock,
    geometry: &'a Geometry,
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
    if !cut::holds_metadata(&found.newest, capacity) {
        check_size(&source.path, &found.newest, capacity)?;
    }
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

impl Inspected {
    fn new(title: String, offset: u64) -> Inspected {
        Inspected {
            title,
            offset,
            fields: Vec::new(),
            refused: None,
            notes: Vec::new(),
        }
    }

    /// Describes `bytes`, and says whether they were refused.
    fn of<T>(
        title: String,
        offset: u64,
        structure: Structure,
        bytes: &[u8],
        decoded: Result<T, Corruption>,
    ) -> Inspected {
        Inspected {
            fields: describe(structure, bytes),
            refused: decoded.err().map(|why| why.to_string()),
            ..Inspected::new(title, offset)
        }
    }
}

impl Look<'_> {
    /// One block of a structure; what could not be read is said.
    fn block<T>(
        &mut self,
        title: String,
        offset: u64,
        structure: Structure,
        decode: impl FnOnce(&[u8]) -> Result<T, Corruption>,
    ) -> Result<Inspected, OpenError> {
        match self.io.read(offset, FORMAT_BLOCK) {
            Ok(block) => {
                let bytes = &block[..FORMAT_BLOCK];
                Ok(Inspected::of(
                    title,
                    offset,
                    structure,
                    bytes,
                    decode(bytes),
                ))
            }
            Err(error) if error.is_answer_for_place() => Ok(Inspected {
                refused: Some(error_chain(&error)),
                ..Inspected::new(title, offset)
            }),
            Err(source) => {
                let what = "reading a structure";
                Err(OpenError::Io { what, source })
            }
        }
    }
}
