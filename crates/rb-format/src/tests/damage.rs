//! Every damaged byte is detected, and no garbage makes a decoder panic.

use proptest::prelude::*;

use super::samples::{self, ID, LIMITS};
use crate::*;

/// Every byte of `sound`, with one bit and with all bits changed, must be rejected.
fn each_byte_matters(name: &str, sound: &[u8], accepts: impl Fn(&[u8]) -> bool) {
    assert!(accepts(sound), "{name}: the sound bytes are refused");
    let mut bytes = sound.to_vec();
    for at in 0..bytes.len() {
        for flip in [1 << (at % 8), 0xff] {
            bytes[at] ^= flip;
            assert!(
                !accepts(&bytes),
                "{name}: byte {at} changed by {flip:#x} is accepted"
            );
            bytes[at] ^= flip;
        }
    }
}

#[test]
fn any_damaged_byte_of_a_block_is_noticed() {
    let superblock = samples::superblock_of_three_runs().encode();
    each_byte_matters("superblock", &superblock[..], |b| {
        Superblock::decode(b).is_ok()
    });
    let incarnation = samples::incarnation().encode();
    each_byte_matters("incarnation", &incarnation[..], |b| {
        Incarnation::decode(b, &ID).is_ok()
    });
    let mut header = [0; FORMAT_BLOCK];
    samples::slot_header().encode_into(&ID, &mut header);
    each_byte_matters("slot header", &header, |b| {
        SlotHeader::decode(b, &ID).is_ok()
    });
    samples::longest().encode_into(&ID, &mut header);
    each_byte_matters("longest slot header", &header, |b| {
        SlotHeader::decode(b, &ID).is_ok()
    });
    samples::continuation().encode_into(&ID, &mut header);
    each_byte_matters("continuation header", &header, |b| {
        Continuation::decode(b, &ID).is_ok()
    });
    let state = samples::policy_state();
    let data = FORMAT_BLOCK + state.budget.len() + state.policy.len();
    each_byte_matters("policy state", &state.encode(&ID)[..data], |b| {
        PolicyState::decode(b, &ID).is_ok()
    });
    each_byte_matters("log block", &samples::log_block(), |b| {
        LogBlock::decode(b, &ID).is_ok()
    });
}

#[test]
fn any_damaged_byte_of_a_base_is_noticed() {
    let geometry = Geometry::new(&samples::superblock());
    for compression in [Compression::Plain, Compression::Zstd { level: 1 }] {
        let base = samples::base(&samples::varied_entries(), compression);
        each_byte_matters("base header", &base.header.encode()[..], |b| {
            BaseHeader::decode(b, &ID).is_ok()
        });
        each_byte_matters("directory", &base.directory_bytes, |b| {
            decode_directory(b, &base.header, base.region_bytes).is_ok()
        });
        each_byte_matters("section", &base.sections[0], |b| {
            let entry = &base.directory[0];
            decode_section(b, entry, 0, &base.header, &geometry, LIMITS, &mut |_| {}).is_ok()
        });
    }
}

#[test]
fn another_store_and_another_epoch_are_distinguished() {
    let other_store = Identity {
        uuid: StoreUuid([0xaa; 16]),
        ..ID
    };
    let (earlier, later) = (ID.epoch - 1, ID.epoch + 1);
    let is_epoch = |e: &Corruption| matches!(e, Corruption::WrongEpoch { .. });
    let mut slot = [0; FORMAT_BLOCK];
    samples::slot_header().encode_into(&ID, &mut slot);
    let mut part = [0; FORMAT_BLOCK];
    samples::continuation().encode_into(&ID, &mut part);
    let base = samples::base(&samples::varied_entries(), Compression::Plain);
    for (identity, is_right) in [
        (
            other_store,
            (|e| matches!(e, Corruption::WrongStore { .. })) as fn(&Corruption) -> bool,
        ),
        (
            Identity {
                epoch: earlier,
                ..ID
            },
            is_epoch,
        ),
        (Identity { epoch: later, ..ID }, is_epoch),
    ] {
        let errors = [
            Incarnation::decode(&samples::incarnation().encode()[..], &identity).unwrap_err(),
            SlotHeader::decode(&slot, &identity).unwrap_err(),
            Continuation::decode(&part, &identity).unwrap_err(),
            LogBlock::decode(&samples::log_block(), &identity).unwrap_err(),
            BaseHeader::decode(&base.header.encode()[..], &identity).unwrap_err(),
        ];
        for error in errors {
            assert!(is_right(&error), "{error}");
        }
    }
}

/// Appends a correct checksum, so that the checks after the checksum are reached.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = u64::from(crc32fast::hash(&bytes[..4088]));
    bytes[4088..4096].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Calls every decoder; none may panic.
fn decode_as_everything(bytes: &[u8]) {
    let _ = Superblock::decode(bytes);
    let _ = Incarnation::decode(bytes, &ID);
    let _ = SlotHeader::decode(bytes, &ID);
    let _ = Continuation::decode(bytes, &ID);
    if let Ok(block) = LogBlock::decode(bytes, &ID) {
        assert!(block.records().count() > 0);
    }
    let _ = BaseHeader::decode(bytes, &ID);
    let _ = PolicyState::decode(bytes, &ID);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..4200)) {
        decode_as_everything(&bytes);
    }

    /// Hostile bytes after a correct magic, version, identity and checksum.
    #[test]
    fn forged_blocks_never_panic(
        which in 0..6_usize,
        patches in prop::collection::vec((12..4088_usize, any::<u8>()), 1..6),
        low in prop::collection::vec((12..160_usize, any::<u8>()), 0..4),
    ) {
        let mut slot = vec![0; FORMAT_BLOCK];
        samples::slot_header().encode_into(&ID, &mut slot);
        let base = samples::base(&samples::varied_entries(), Compression::Plain);
        let mut bytes = match which {
            0 => samples::superblock_of_three_runs().encode().to_vec(),
            1 => samples::incarnation().encode().to_vec(),
            2 => slot.clone(),
            3 => samples::log_block(),
            4 => {
                samples::continuation().encode_into(&ID, &mut slot);
                slot
            }
            _ => base.header.encode().to_vec(),
        };
        for (at, byte) in patches.into_iter().chain(low) {
            bytes[at] = byte;
        }
        let bytes = with_checksum(bytes);
        decode_as_everything(&bytes);
        // A superblock that passes is safe for arithmetic.
        if let Ok(sb) = Superblock::decode(&bytes) {
            let geometry = Geometry::new(&sb);
            let last = geometry.slots() - 1;
            prop_assert!(geometry.payload_offset(last).unwrap() <= sb.device_bytes);
        }
    }

    /// Hostile section bodies and directories with correct checksums.
    #[test]
    fn forged_sections_never_panic(
        zstd in any::<bool>(),
        patches in prop::collection::vec((64..6000_usize, any::<u8>()), 1..5),
        entries in 0..200_u32,
        raw_len in 0..9000_u64,
        keep_header in any::<bool>(),
    ) {
        let compression = if zstd { Compression::Zstd { level: 1 } } else { Compression::Plain };
        let base = samples::base(&samples::varied_entries(), compression);
        let mut entry = base.directory[0];
        let mut bytes = base.sections[0].clone();
        for (at, byte) in patches {
            let at = 64 + (at - 64) % (entry.stored_len as usize - 64);
            bytes[at] = byte;
        }
        if !keep_header {
            entry.entries = entries;
            entry.raw_len = raw_len;
            bytes[48..56].copy_from_slice(&raw_len.to_le_bytes());
            bytes[56..60].copy_from_slice(&entries.to_le_bytes());
        }
        entry.checksum = crc32fast::hash(&bytes[..entry.stored_len as usize]).into();
        let geometry = Geometry::new(&samples::superblock());
        let _ = decode_section(&bytes, &entry, 0, &base.header, &geometry, LIMITS, &mut |e| {
            let slots = [e.slot].into_iter().chain(e.more.iter());
            let capacity: u64 = slots.map(|slot| geometry.slot_capacity(slot).unwrap()).sum();
            assert!(capacity >= e.payload_len.into());
        });
    }

    #[test]
    fn forged_directories_never_panic(
        patches in prop::collection::vec((0..64_usize, any::<u8>()), 1..4),
    ) {
        let mut base = samples::base(&samples::varied_entries(), Compression::Plain);
        let mut entries = base.directory_bytes[..64].to_vec();
        for (at, byte) in patches {
            entries[at] = byte;
        }
        // The checksum of `encode_directory` over other bytes, reimplemented here.
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&magic::MAGIC_DIRECTORY);
        hasher.update(&ID.uuid.0);
        hasher.update(&ID.epoch.to_le_bytes());
        hasher.update(&base.header.base_sequence.to_le_bytes());
        hasher.update(&entries);
        base.header.directory_checksum = hasher.finalize().into();
        entries.resize(FORMAT_BLOCK, 0);
        if let Ok(directory) = decode_directory(&entries, &base.header, base.region_bytes) {
            let end = directory[0].offset + directory[0].padded_len();
            prop_assert!(end <= base.header.directory_offset);
        }
    }
}
