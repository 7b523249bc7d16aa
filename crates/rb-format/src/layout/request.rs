//! The request for a layout, and the checks that need no device.

use super::error::LayoutError;
use crate::superblock::LOG_BLOCKS_MIN;
use crate::{BLOCK, CLASSES_MAX, KEY_LEN_MAX, METADATA_LEN_MAX, SLOT_BYTES_MAX};

/// A request for a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutRequest {
    /// Size of the device in bytes.
    pub device_bytes: u64,
    /// 1 to [`CLASSES_MAX`] classes in any order, no two of one capacity.
    pub classes: Vec<ClassRequest>,
    /// The longest key in bytes, 1 to [`KEY_LEN_MAX`].
    pub key_len_max: u32,
    /// The longest metadata in bytes, 0 to [`METADATA_LEN_MAX`].
    pub metadata_len_max: u32,
    /// Bytes of each of the two rings of the delta log: a multiple of the format block, at least 64
    /// of them. `None` for room for one put record per slot (with keys of 64 bytes), between 1 MiB
    /// and 1 GiB.
    pub log_bytes: Option<u64>,
}

/// A slot class to plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassRequest {
    /// Payload capacity of a slot in bytes: a multiple of the format block, up to
    /// [`SLOT_BYTES_MAX`].
    pub slot_bytes: u64,
    /// The share of the space.
    pub share: Share,
}

/// The share of the space that a class gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// This percentage, 1 to 100, of the space for slots.
    Percent(u32),
    /// Exactly this many slots, at least 1.
    Slots(u64),
    /// The space that the others leave, split evenly (in bytes) among the classes with this share.
    Rest,
}

/// A request whose numbers are in range, with classes by increasing capacity.
pub(super) struct Wishes {
    pub(super) classes: Vec<ClassRequest>,
    pub(super) key_len_max: u32,
    pub(super) metadata_len_max: u32,
    pub(super) log_bytes: Option<u64>,
}

pub(super) fn check(
    classes: &[ClassRequest],
    key_len_max: u32,
    metadata_len_max: u32,
    log_bytes: Option<u64>,
) -> Result<Wishes, LayoutError> {
    if classes.is_empty() || classes.len() > CLASSES_MAX {
        return Err(LayoutError::Classes {
            found: classes.len(),
            max: CLASSES_MAX,
        });
    }
    if key_len_max == 0 || key_len_max > KEY_LEN_MAX as u32 {
        return Err(LayoutError::KeyLenMax {
            found: key_len_max,
            max: KEY_LEN_MAX as u32,
        });
    }
    if metadata_len_max > METADATA_LEN_MAX as u32 {
        let max = METADATA_LEN_MAX as u32;
        return Err(LayoutError::MetadataLenMax {
            found: metadata_len_max,
            max,
        });
    }
    check_log(log_bytes)?;
    let mut sorted = classes.to_vec();
    sorted.sort_by_key(|class| class.slot_bytes);
    for class in &sorted {
        check_class(class)?;
    }
    if let Some(pair) = sorted
        .windows(2)
        .find(|pair| pair[0].slot_bytes == pair[1].slot_bytes)
    {
        return Err(LayoutError::Duplicate {
            slot_bytes: pair[0].slot_bytes,
        });
    }
    let sum = sorted.iter().map(|class| match class.share {
        Share::Percent(percent) => u64::from(percent),
        Share::Slots(_) | Share::Rest => 0,
    });
    match sum.sum() {
        0..=100 => Ok(Wishes {
            classes: sorted,
            key_len_max,
            metadata_len_max,
            log_bytes,
        }),
        sum => Err(LayoutError::PercentSum { sum }),
    }
}

fn check_log(log_bytes: Option<u64>) -> Result<(), LayoutError> {
    let min = LOG_BLOCKS_MIN * BLOCK;
    match log_bytes {
        Some(found) if found < min || !found.is_multiple_of(BLOCK) => Err(LayoutError::LogBytes {
            found,
            min,
            multiple: BLOCK,
        }),
        Some(_) | None => Ok(()),
    }
}

fn check_class(class: &ClassRequest) -> Result<(), LayoutError> {
    let slot_bytes = class.slot_bytes;
    if !(BLOCK..=SLOT_BYTES_MAX).contains(&slot_bytes) {
        return Err(LayoutError::SlotBytes {
            slot_bytes,
            min: BLOCK,
            max: SLOT_BYTES_MAX,
        });
    }
    if !slot_bytes.is_multiple_of(BLOCK) {
        return Err(LayoutError::SlotBytesUnaligned {
            slot_bytes,
            multiple: BLOCK,
        });
    }
    match class.share {
        Share::Percent(percent) if percent == 0 || percent > 100 => Err(LayoutError::Percent {
            slot_bytes,
            percent,
        }),
        Share::Slots(0) => Err(LayoutError::NoSlots { slot_bytes }),
        Share::Slots(slots) if slots > u64::from(u32::MAX) => Err(LayoutError::TooManySlots {
            slots,
            max: u32::MAX.into(),
        }),
        Share::Percent(_) | Share::Slots(_) | Share::Rest => Ok(()),
    }
}
