//! Targets of an inspection, and the structures it shows.

use rb_format::{Corruption, FORMAT_BLOCK, FieldText, Geometry, Structure, Superblock, describe};

use crate::error::{OpenError, error_chain};
use crate::io::meta_io::MetaIo;

/// One of two places of a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first place.
    A,
    /// The second place.
    B,
}

/// The structure to inspect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The superblock copies, or one of them.
    Superblock(Option<Side>),
    /// The incarnation blocks, or one of them.
    Incarnation(Option<Side>),
    /// The checkpoint bases, or one of them: headers, directory, and the header of each section.
    Base(Option<Side>),
    /// The blocks of the log since the newest base.
    Log,
    /// One log block with its records in both rings, by sequence.
    LogBlock(u64),
    /// A slot's header, by slot number.
    Slot(u32),
    /// The header of the slot that holds a key.
    Key(Vec<u8>),
}

/// A structure as it is on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// Name of the structure.
    pub title: String,
    /// Byte offset of the structure on the device; field offsets are relative to it.
    pub offset: u64,
    /// The fields; empty if the structure could not be read.
    pub fields: Vec<FieldText>,
    /// Reason why its decoder rejects it; `None` if it is valid.
    pub refused: Option<String>,
    /// Further remarks.
    pub notes: Vec<String>,
}

/// The store under inspection.
pub(super) struct Look<'a> {
    pub(super) io: MetaIo,
    pub(super) superblock: &'a Superblock,
    pub(super) geometry: &'a Geometry,
    /// Size of the device in bytes. It may be less than the layout.
    pub(super) capacity: u64,
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

    /// Describes `bytes` together with the result of decoding them.
    pub(super) fn of<T>(
        title: String,
        offset: u64,
        structure: Structure,
        bytes: &[u8],
        decoded: Result<T, Corruption>,
    ) -> Inspected {
        Inspected {
            fields: describe(structure, bytes),
            refused: decoded.err().map(|why| why.reason()),
            ..Inspected::new(title, offset)
        }
    }
}

impl Look<'_> {
    /// Returns whether a range is not entirely on the device, which is smaller than the layout.
    pub(super) fn is_cut(&self, offset: u64, len: usize) -> bool {
        offset + len as u64 > self.capacity
    }

    pub(super) fn cut_text(&self) -> String {
        format!(
            "it lies behind the end of the device, at byte {}",
            self.capacity
        )
    }

    /// Shows one block of a structure. An unreadable block is shown with its error.
    pub(super) fn block<T>(
        &mut self,
        title: String,
        offset: u64,
        structure: Structure,
        decode: impl FnOnce(&[u8]) -> Result<T, Corruption>,
    ) -> Result<Inspected, OpenError> {
        if self.is_cut(offset, FORMAT_BLOCK) {
            return Ok(Inspected {
                refused: Some(self.cut_text()),
                ..Inspected::new(title, offset)
            });
        }
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
