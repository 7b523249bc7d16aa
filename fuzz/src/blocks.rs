//! Targets for the structures of one block. Every block that a decoder accepts must equal the block that the encoder
//! makes of the result: so every byte has a meaning and was checked.

use rb_format::{
    BaseHeader, Continuation, FORMAT_BLOCK, Geometry, Incarnation, KEY_LEN_MAX, LogBlock,
    LogEncoder, LogPosition, SlotHeader, Superblock, VALUE_SLOTS_MAX, key_hash,
};

use crate::forge::{Forged, forge, seal};
use crate::input::Input;
use crate::samples::{self, ID};

/// Returns the input as a changed form of `sample`.
fn block_from(data: &[u8], sample: &[u8], fix: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let Forged { mut bytes, sealed } = forge(&mut Input::new(data), sample);
    if sealed {
        fix(&mut bytes);
        seal(&mut bytes);
    }
    bytes
}

fn same(encoded: &[u8], bytes: &[u8]) {
    assert_eq!(
        encoded,
        &bytes[..FORMAT_BLOCK],
        "decoded, but not canonical"
    );
}

/// Checks that arithmetic on a superblock that decodes is safe: every slot lies inside the device.
pub(crate) fn superblock(data: &[u8]) {
    let bytes = block_from(data, &samples::superblock().encode()[..], |_| {});
    let Ok(superblock) = Superblock::decode(&bytes) else {
        return;
    };
    same(&superblock.encode()[..], &bytes);
    let geometry = Geometry::new(&superblock);
    let ends = |slot| Some(geometry.payload_offset(slot)? + geometry.slot_capacity(slot)?);
    for slot in [0, geometry.slots() / 2, geometry.slots() - 1] {
        let end = ends(slot).expect("a slot below the number of slots exists");
        assert!(end <= superblock.device_bytes, "slot {slot} ends at {end}");
    }
    assert_eq!(ends(geometry.slots()), None);
    for class in 0..geometry.classes() as u8 {
        let capacity = geometry.class_capacity(class);
        assert_eq!(geometry.class_for(capacity), Some(class));
    }
    for area in superblock.unused_areas() {
        assert!(area.start < area.end && area.end <= superblock.device_bytes);
    }
    let longest = geometry.value_len_max();
    let (_, slots) = geometry.slots_for(longest).expect("the longest value fits");
    assert!(slots <= VALUE_SLOTS_MAX);
}

pub(crate) fn incarnation(data: &[u8]) {
    let bytes = block_from(data, &samples::incarnation().encode()[..], |_| {});
    if let Ok(block) = Incarnation::decode(&bytes, &ID) {
        same(&block.encode()[..], &bytes);
    }
}

pub(crate) fn slot_header(data: &[u8]) {
    // Half of the forged headers get the right key hash; otherwise none would pass that check.
    let fix_hash = data.len().is_multiple_of(2);
    let bytes = block_from(data, &samples::slot_header(), |bytes| {
        let key_len = usize::from(u16::from_le_bytes([bytes[76], bytes[77]]));
        if fix_hash && key_len <= KEY_LEN_MAX {
            let hash = key_hash(&ID.uuid, &bytes[88..88 + key_len]);
            bytes[48..56].copy_from_slice(&hash.to_le_bytes());
        }
    });
    if let Ok(header) = SlotHeader::decode(&bytes, &ID) {
        let mut encoded = [0xff; FORMAT_BLOCK];
        header.encode_into(&ID, &mut encoded);
        same(&encoded, &bytes);
    }
}

pub(crate) fn continuation(data: &[u8]) {
    let bytes = block_from(data, &samples::continuation(), |_| {});
    if let Ok(header) = Continuation::decode(&bytes, &ID) {
        let mut encoded = [0xff; FORMAT_BLOCK];
        header.encode_into(&ID, &mut encoded);
        same(&encoded, &bytes);
        assert!((1..=header.more_slots).contains(&header.number));
        assert_ne!(header.slot, header.first_slot);
    }
}

pub(crate) fn log_block(data: &[u8]) {
    let bytes = block_from(data, &samples::log_block(), |_| {});
    let Ok(block) = LogBlock::decode(&bytes, &ID) else {
        return;
    };
    let start = LogPosition {
        sequence: block.sequence,
        anchor: block.predecessor,
    };
    let mut encoder = LogEncoder::new(ID, block.incarnation, start);
    for record in block.records() {
        encoder.push(&record, 0);
    }
    encoder.seal(block.durable);
    same(&encoder.take_sealed().bytes, &bytes);
    assert_eq!(block.position().sequence, block.sequence + 1);
}

pub(crate) fn base_header(data: &[u8]) {
    let bytes = block_from(data, &samples::base().header.encode()[..], |_| {});
    if let Ok(header) = BaseHeader::decode(&bytes, &ID) {
        same(&header.encode()[..], &bytes);
    }
}
