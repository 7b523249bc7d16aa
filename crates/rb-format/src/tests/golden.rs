//! Golden images: bytes written by version 1 stay readable, and version 1 stays what it was.
//!
//! To write images that are missing: `RB_FORMAT_WRITE_GOLDEN=1 cargo test -p rb-format golden`.
//! An image that exists is never rewritten; a released one must not change.

use std::fs;
use std::path::PathBuf;

use super::samples;
use crate::*;

/// The image's bytes; `now` is what today's code writes.
fn image(name: &str, now: &[u8]) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "golden", name]
        .iter()
        .collect();
    if !path.exists() && std::env::var_os("RB_FORMAT_WRITE_GOLDEN").is_some() {
        fs::write(&path, now).unwrap();
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn superblock() {
    let sample = samples::superblock_of_three_runs();
    let bytes = image("v1-superblock.bin", &sample.encode()[..]);
    let decoded = Superblock::decode(&bytes).unwrap();
    assert_eq!(decoded, sample);
    assert_eq!(decoded.encode()[..], bytes[..]);
}

#[test]
fn incarnation() {
    let sample = samples::incarnation();
    let bytes = image("v1-incarnation.bin", &sample.encode()[..]);
    let decoded = Incarnation::decode(&bytes, &samples::ID).unwrap();
    assert_eq!(decoded, sample);
    assert_eq!(decoded.encode()[..], bytes[..]);
}

#[test]
fn slot_header() {
    let sample = samples::slot_header();
    let mut now = [0xff; FORMAT_BLOCK];
    sample.encode_into(&samples::ID, &mut now);
    let bytes = image("v1-slot-header.bin", &now);
    let decoded = SlotHeader::decode(&bytes, &samples::ID).unwrap();
    assert_eq!(decoded, sample);
    assert_eq!(now[..], bytes[..]);
}

#[test]
fn payload_checksum_is_pinned() {
    let header = samples::slot_header();
    let payload: Vec<u8> = (0..65_000_u32).map(|i| ((i * 31) >> 3) as u8).collect();
    let sum = payload_checksum(
        &samples::ID,
        header.generation,
        header.slot,
        header.key_hash,
        &payload,
    );
    let bytes = image("v1-payload-checksum.bin", &sum.to_le_bytes());
    assert_eq!(bytes, sum.to_le_bytes());
}

#[test]
fn log_block() {
    let now = samples::log_block();
    let bytes = image("v1-log-block.bin", &now);
    let decoded = LogBlock::decode(&bytes, &samples::ID).unwrap();
    assert_eq!(decoded.records().collect::<Vec<_>>(), samples::records());
    let start = LogPosition {
        sequence: decoded.sequence,
        anchor: decoded.predecessor,
    };
    let mut encoder = LogEncoder::new(samples::ID, decoded.incarnation, start);
    for record in decoded.records() {
        encoder.push(&record, 0);
    }
    encoder.seal(decoded.durable);
    assert_eq!(encoder.take_sealed().bytes, bytes);
}

#[test]
fn base_header_and_directory() {
    let sample = samples::base(&samples::varied_entries(), Compression::Plain);
    let bytes = image("v1-base-header.bin", &sample.header.encode()[..]);
    let header = BaseHeader::decode(&bytes, &samples::ID).unwrap();
    assert_eq!(header, sample.header);
    assert_eq!(header.encode()[..], bytes[..]);
    let bytes = image("v1-base-directory.bin", &sample.directory_bytes);
    let directory = decode_directory(&bytes, &header, sample.region_bytes).unwrap();
    assert_eq!(directory, sample.directory);
    let again = encode_directory(&directory, &samples::ID, header.base_sequence);
    assert_eq!(again.bytes, bytes);
}

/// Decodes a section image with the directory entry that its own bytes imply.
fn decode_image(
    bytes: &[u8],
    sample: &samples::SampleBase,
) -> Result<Vec<samples::OwnedEntry>, Corruption> {
    // The stored length is not in the section: zeros at its end are padding, and no stored
    // section ends with a zero byte by construction of the sample.
    let stored_len = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let checksum = crc32fast::hash(&bytes[..stored_len]).into();
    let entry = DirectoryEntry {
        stored_len: stored_len as u64,
        checksum,
        ..sample.directory[0]
    };
    let geometry = Geometry::new(&samples::superblock());
    let mut found = Vec::new();
    decode_section(
        bytes,
        &entry,
        0,
        &sample.header,
        &geometry,
        samples::LIMITS,
        &mut |e| {
            found.push(samples::OwnedEntry::of(e));
        },
    )?;
    Ok(found)
}

#[test]
fn plain_section() {
    let entries = samples::varied_entries();
    let sample = samples::base(&entries, Compression::Plain);
    let bytes = image("v1-base-section-plain.bin", &sample.sections[0]);
    assert_eq!(bytes, sample.sections[0]);
    assert_eq!(decode_image(&bytes, &sample).unwrap(), entries);
}

/// Only read: another version of zstd may compress to other bytes.
#[test]
fn compressed_section() {
    let entries = samples::varied_entries();
    let sample = samples::base(&entries, Compression::Zstd { level: 1 });
    let bytes = image("v1-base-section-zstd.bin", &sample.sections[0]);
    let found = decode_image(&bytes, &sample);
    if cfg!(feature = "zstd") {
        assert_eq!(found.unwrap(), entries);
    } else {
        let codec_disabled = Corruption::CodecDisabled {
            what: "base section",
            codec: "zstd",
        };
        assert_eq!(found.unwrap_err(), codec_disabled);
    }
}
