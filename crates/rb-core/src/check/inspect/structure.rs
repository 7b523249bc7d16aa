//! What is inspected, and a structure as it is on the device.

use rb_format::{Corruption, FORMAT_BLOCK, FieldText, Geometry, Structure, Superblock, describe};

use crate::error::{OpenError, error_chain};
use crate::io::meta_io::MetaIo;

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

/// A store to look into.
pub(super) struct Look<'a> {
    pub(super) io: MetaIo,
    pub(super) superblock: &'a Superblock,
    pub(super) geometry: &'a Geometry,
}

impl Inspected {
    pub(super) fn new(title: String, offset: u64) -> Inspected {
        Inspected {
            title,
            offset,
            fields: Vec::new(),
            refused: None,
            notes: Vec::new(),
        }
    }

    /// Describes `bytes`, and says whether they were refused.
    pub(super) fn of<T>(
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
    pub(super) fn block<T>(
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
