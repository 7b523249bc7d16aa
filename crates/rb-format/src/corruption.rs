//! The error of all decoders.

use crate::identity::{Identity, StoreUuid};
use crate::magic;

/// Reason why bytes from a device are not the expected record.
///
/// `what` names the structure ("superblock", "log block", …) in every variant.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corruption {
    /// The first eight bytes are not the magic of this structure.
    #[error("{what}: {}", magic_text(found))]
    Magic {
        /// The structure.
        what: &'static str,
        /// The bytes found.
        found: [u8; 8],
    },
    /// A valid record of a version that this crate does not support.
    #[error("{what}: format version {found}, this program reads version {supported}")]
    Version {
        /// The structure.
        what: &'static str,
        /// The version found.
        found: u32,
        /// The only version supported.
        supported: u32,
    },
    /// The bytes do not match their checksum.
    #[error("{what}: checksum should be {expected:#x} and is {found:#x}")]
    Checksum {
        /// The structure.
        what: &'static str,
        /// The checksum computed from the bytes.
        expected: u64,
        /// The checksum stored.
        found: u64,
    },
    /// A byte that version 1 writes as zero is not zero.
    #[error("{what}: reserved byte at offset {offset} is not zero")]
    Reserved {
        /// The structure.
        what: &'static str,
        /// Offset of the first such byte from the start of the structure.
        offset: u64,
    },
    /// A field is outside its range.
    #[error("{what}: {field} is {found}, allowed is {min} to {max}")]
    Field {
        /// The structure.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// The number found.
        found: u64,
        /// The smallest allowed number.
        min: u64,
        /// The largest allowed number.
        max: u64,
    },
    /// A field differs from the value that it must equal.
    #[error("{what}: {field} is {found:#x} and should be {expected:#x}")]
    Mismatch {
        /// The structure.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// The required value.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// A length or an offset is not a whole number of format blocks.
    #[error("{what}: {field} is {found}, not a multiple of {multiple}")]
    Unaligned {
        /// The structure.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// The number found.
        found: u64,
        /// The required multiple.
        multiple: u64,
    },
    /// Two areas share bytes.
    #[error("{what}: {first} ends at byte {end}, after the start of {second} at byte {start}")]
    Overlap {
        /// The structure.
        what: &'static str,
        /// The area that comes first.
        first: &'static str,
        /// The first byte past its end.
        end: u64,
        /// The area that comes second.
        second: &'static str,
        /// Its first byte.
        start: u64,
    },
    /// A value names one slot twice.
    #[error("{what}: names slot {slot} twice")]
    SlotTwice {
        /// The structure.
        what: &'static str,
        /// The slot.
        slot: u32,
    },
    /// The record belongs to another store.
    #[error("{what}: belongs to store {found}, not to {expected}")]
    WrongStore {
        /// The structure.
        what: &'static str,
        /// The requested store.
        expected: StoreUuid,
        /// The store named in the record.
        found: StoreUuid,
    },
    /// The record belongs to another epoch of this store: it was written before the store was
    /// emptied or formatted again.
    #[error("{what}: belongs to epoch {found}, the store is in epoch {expected}")]
    WrongEpoch {
        /// The structure.
        what: &'static str,
        /// The epoch of the store.
        expected: u64,
        /// The epoch named in the record.
        found: u64,
    },
    /// There are fewer bytes than the structure needs.
    #[error("{what}: needs {needed} bytes, there are {found}")]
    Truncated {
        /// The structure.
        what: &'static str,
        /// Number of bytes needed.
        needed: u64,
        /// Number of bytes present.
        found: u64,
    },
    /// The record is compressed with a codec that this build does not include.
    #[error("{what}: compressed with {codec}, which this build was made without")]
    CodecDisabled {
        /// The structure.
        what: &'static str,
        /// The codec's name, which is also the name of the crate feature.
        codec: &'static str,
    },
    /// The decompressor rejected the bytes.
    #[error("{what}: {codec} refuses the bytes: {reason}")]
    Codec {
        /// The structure.
        what: &'static str,
        /// The codec's name.
        codec: &'static str,
        /// The message of the decompressor.
        reason: String,
    },
}

impl Corruption {
    /// Returns the message without the name of the structure, for a text that has named it already.
    #[must_use]
    pub fn reason(&self) -> String {
        let text = self.to_string();
        text.split_once(": ")
            .map_or(text.clone(), |(_, reason)| reason.to_owned())
    }

    /// Returns true if the magic is all zero or not one of this format: nothing of this format was
    /// ever written here. The magic of another structure of this format does not count as absence;
    /// it is a misdirected write.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Corruption::Magic { found, .. } if !magic::ALL.contains(found))
    }

    /// Returns true if the record is valid but of a version that this crate does not support, so it
    /// must be left alone and not be treated as damage.
    #[must_use]
    pub fn is_unknown_version(&self) -> bool {
        matches!(self, Corruption::Version { .. })
    }
}

/// Describes the first bytes of a block that are not the magic of its structure.
fn magic_text(found: &[u8; 8]) -> String {
    match found {
        [0, 0, 0, 0, 0, 0, 0, 0] => "the magic is zero".to_owned(),
        found => format!("the magic is \"{}\", not ours", found.escape_ascii()),
    }
}

impl Identity {
    /// Checks that a record names this identity.
    pub(crate) fn check(
        &self,
        what: &'static str,
        uuid: [u8; 16],
        epoch: u64,
    ) -> Result<(), Corruption> {
        let found = StoreUuid(uuid);
        if found != self.uuid {
            return Err(Corruption::WrongStore {
                what,
                expected: self.uuid,
                found,
            });
        }
        if epoch != self.epoch {
            return Err(Corruption::WrongEpoch {
                what,
                expected: self.epoch,
                found: epoch,
            });
        }
        Ok(())
    }
}

/// Checks `min <= found <= max`.
pub(crate) fn in_range(
    what: &'static str,
    field: &'static str,
    found: u64,
    min: u64,
    max: u64,
) -> Result<(), Corruption> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(Corruption::Field {
        what,
        field,
        found,
        min,
        max,
    })
}

/// Checks that `found` is a whole number of format blocks.
pub(crate) fn whole_blocks(
    what: &'static str,
    field: &'static str,
    found: u64,
) -> Result<(), Corruption> {
    if found.is_multiple_of(crate::BLOCK) {
        return Ok(());
    }
    Err(Corruption::Unaligned {
        what,
        field,
        found,
        multiple: crate::BLOCK,
    })
}

/// Checks `found == expected`.
pub(crate) fn equals(
    what: &'static str,
    field: &'static str,
    expected: u64,
    found: u64,
) -> Result<(), Corruption> {
    if found == expected {
        return Ok(());
    }
    Err(Corruption::Mismatch {
        what,
        field,
        expected,
        found,
    })
}
