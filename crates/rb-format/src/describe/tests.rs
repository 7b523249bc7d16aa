//! Descriptions of valid structures and of broken ones.

use super::*;
use crate::FORMAT_BLOCK;
use crate::tests::samples::{self, ID};

fn said(structure: Structure, bytes: &[u8]) -> Vec<(String, String)> {
    let fields = describe(structure, bytes);
    for field in &fields {
        assert!(field.offset + field.len <= bytes.len() as u64, "{field:?}");
    }
    fields
        .into_iter()
        .map(|field| (field.name, field.value))
        .collect()
}

#[track_caller]
fn has(fields: &[(String, String)], name: &str, value: &str) {
    let found = fields.iter().find(|field| field.0 == name);
    assert_eq!(
        found.map(|field| &*field.1),
        Some(value),
        "{name} of {fields:?}"
    );
}

#[test]
fn parts_are_named_with_their_values() {
    let superblock = samples::superblock_of_three_runs();
    let fields = said(Structure::Superblock, &superblock.encode()[..]);
    has(&fields, "magic", "rbSUPERB");
    has(&fields, "uuid", &ID.uuid.to_string());
    has(&fields, "features_incompatible", "0x8000000000000000");
    let mut labelled = superblock.clone();
    labelled.label = [0; crate::LABEL_LEN];
    labelled.label[..9].copy_from_slice(b"rack 7\0/2");
    let of_label = said(Structure::Superblock, &labelled.encode()[..]);
    has(&of_label, "label", "rack 7\\x00/2");
    has(
        &fields,
        "runs[2].count",
        &superblock.runs[2].count.to_string(),
    );
    assert!(
        fields
            .iter()
            .all(|(name, _)| !name.contains("reserved") && !name.contains("runs[3]"))
    );

    let header = samples::slot_header();
    let mut bytes = vec![0; FORMAT_BLOCK];
    header.encode_into(&ID, &mut bytes);
    let fields = said(Structure::SlotHeader, &bytes);
    has(&fields, "key", "model/layer-17/block-00042");
    has(&fields, "metadata", "bf16[2,16,128]");
    has(&fields, "payload_checksum", "0xdeadbeef");
    has(&fields, "expiry", "86400");
    assert!(fields.iter().all(|(name, _)| name != "slots"));
    samples::longest().encode_into(&ID, &mut bytes);
    let fields = said(Structure::SlotHeader, &bytes);
    let slots = fields.iter().find(|field| field.0 == "slots").unwrap();
    assert!(slots.1.starts_with("[40389, 40778, 40167, "), "{slots:?}");
    samples::continuation().encode_into(&ID, &mut bytes);
    let fields = said(Structure::ContinuationHeader, &bytes);
    has(&fields, "magic", "rbSLOTCN");
    has(&fields, "first_slot", "4711");
    has(&fields, "number", "2");

    let fields = said(Structure::LogBlock, &samples::log_block());
    has(&fields, "records[0].kind", "1");
    has(&fields, "records[0].metadata", "meta");
    has(&fields, "records[1].slot", "40012");
    has(&fields, "records[1].slots", "[40900, 40001]");
    has(&fields, "records[2].key", "key of a remove");
    has(&fields, "records[3].slot", "99");
    has(&fields, "records[4].kind", "4");

    let base = samples::base(&samples::varied_entries(), crate::Compression::Plain);
    let fields = said(Structure::BaseHeader, &base.header.encode()[..]);
    has(&fields, "bad_slots", "[5, 77, 40999]");
    has(&fields, "bad_blocks", "[520, 100000]");
    has(&fields, "lifetime_puts", "1000001");
    let len = base.header.directory_len as usize;
    let fields = said(Structure::DirectoryEntry, &base.directory_bytes[..len]);
    has(&fields, "sections[0].entries", "100");
    let fields = said(Structure::SectionHeader, &base.sections[0]);
    has(&fields, "base_sequence", "4");
}

#[test]
fn damage_is_shown_where_it_is() {
    let mut bytes = samples::log_block();
    bytes[68] = 1;
    let sound_kind = 72 + 38 + 16;
    bytes[sound_kind] = 9;
    let fields = said(Structure::LogBlock, &bytes);
    has(&fields, "reserved", "not zero at offset 68");
    has(&fields, "records[0].key", "key of a put");
    let broken = fields.iter().find(|field| field.0 == "records[1]").unwrap();
    assert!(broken.1.contains("record kind is 9"), "{broken:?}");
    let checksum = fields.iter().find(|field| field.0 == "checksum").unwrap();
    assert!(checksum.1.contains("that of the bytes is"), "{checksum:?}");
}

/// Any bytes can be described, including lengths that reach beyond them.
#[test]
fn nothing_on_a_device_makes_it_panic() {
    let mut numbers = samples::Numbers(7);
    for structure in Structure::ALL {
        for len in [0, 1, 31, 512, FORMAT_BLOCK] {
            said(structure, &vec![0xFF; len]);
            let random: Vec<u8> = (0..len).map(|_| numbers.next() as u8).collect();
            said(structure, &random);
        }
    }
}
