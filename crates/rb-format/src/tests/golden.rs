//! Golden images: bytes written by version 1 stay readable, and version 1 keeps writing them.
//!
//! To write missing images: `RB_FORMAT_WRITE_GOLDEN=1 cargo test -p rb-format golden`. An existing
//! image is never rewritten; a released one must not change.

use std::fs;
use std::path::PathBuf;

use super::samples;
use crate::*;

/// Returns the image's bytes; `now` is the output of the current code.
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
fn policy_state() {
    let sample = samples::policy_state();
    let bytes = image("v1-policy-state.bin", &sample.encode(&samples::ID));
    assert_eq!(PolicyState::decode(&bytes, &samples::ID), Ok(sample));
}

#[test]
fn continuation() {
    let sample = samples::continuation();
    let mut now = [0xff; FORMAT_BLOCK];
    sample.encode_into(&samples::ID, &mut now);
    let bytes = image("v1-continuation.bin", &now);
    assert_eq!(Continuation::decode(&bytes, &samples::ID), Ok(sample));
    assert_eq!(now[..], bytes[..]);
}

/// All headers of a value of 256 scattered slots with the longest key and metadata.
#[test]
fn headers_of_the_longest_value() {
    let (first, rest) = (samples::longest(), samples::longest_continuations());
    let mut now = vec![0xff; FORMAT_BLOCK * VALUE_SLOTS_MAX];
    let (head, tail) = now.split_at_mut(FORMAT_BLOCK);
    first.encode_into(&samples::ID, head);
    for (part, out) in rest.iter().zip(tail.chunks_mut(FORMAT_BLOCK)) {
        part.encode_into(&samples::ID, out);
    }
    // Most of a continuation is zeros: the image has the first block in full, and of each other
    // block 64 bytes and the checksum.
    let (head, tail) = now.split_at(FORMAT_BLOCK);
    let parts = tail.chunks(FORMAT_BLOCK);
    let short: Vec<u8> = parts
        .flat_map(|part| [&part[..64], &part[4088..]].concat())
        .collect();
    let stored = image("v1-longest-headers.bin", &[head, &short].concat());
    let (head, short) = stored.split_at(FORMAT_BLOCK);
    let mut bytes = head.to_vec();
    for part in short.chunks(72) {
        bytes.extend_from_slice(&part[..64]);
        bytes.resize(bytes.len() + FORMAT_BLOCK - 72, 0);
        bytes.extend_from_slice(&part[64..]);
    }
    assert_eq!(now, bytes);
    let mut blocks = bytes.chunks(FORMAT_BLOCK);
    let found = SlotHeader::decode(blocks.next().unwrap(), &samples::ID);
    assert_eq!(found.as_ref(), Ok(&first));
    let decode = |block| Continuation::decode(block, &samples::ID).unwrap();
    assert!(blocks.map(decode).eq(rest.iter().copied()));
    // Each slot's own header agrees with the list in the first.
    let geometry = Geometry::new(&samples::superblock());
    let more = MoreSlots::from(&*first.more);
    let checked = geometry.check_slots("value", first.slot, more, first.payload_len);
    assert_eq!(checked, Ok(()));
    assert!(rest.iter().map(|part| part.slot).eq(more.iter()));
}

/// The put record of that value, which is the longest record there is.
#[test]
fn log_block_of_the_longest_value() {
    let header = samples::longest();
    let record = samples::longest_record(&header);
    assert_eq!(record.encoded_len(), RECORD_LEN_MAX);
    let start = LogPosition {
        sequence: 12,
        anchor: 0x0a0b_0c0d,
    };
    let mut encoder = LogEncoder::new(samples::ID, 3, start);
    encoder.push(&record, 0);
    encoder.seal(11);
    let bytes = image("v1-longest-log-block.bin", &encoder.take_sealed().bytes);
    let block = LogBlock::decode(&bytes, &samples::ID).unwrap();
    assert!(block.records().eq([record]));
    let mut again = LogEncoder::new(samples::ID, block.incarnation, start);
    again.push(&record, 0);
    again.seal(block.durable);
    assert_eq!(again.take_sealed().bytes, bytes);
}

/// The entry of that value in a base.
#[test]
fn section_of_the_longest_value() {
    let header = samples::longest();
    let entry = samples::longest_entry(&header);
    let sample = samples::base(std::slice::from_ref(&entry), Compression::Plain);
    let bytes = image("v1-longest-base-section.bin", &sample.sections[0]);
    assert_eq!(bytes, sample.sections[0]);
    let (geometry, mut found) = (Geometry::new(&samples::superblock()), Vec::new());
    let limits = KeyLimits {
        key_len_max: KEY_LEN_MAX as u32,
        metadata_len_max: METADATA_LEN_MAX as u32,
    };
    let (listed, base) = (&sample.directory[0], &sample.header);
    decode_section(&bytes, listed, 0, base, &geometry, limits, &mut |e| {
        found.push(samples::OwnedEntry::of(e));
    })
    .unwrap();
    assert_eq!(found, [entry]);
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
    let bytes = image("v1-base-header-errors.bin", &sample.header.encode()[..]);
    let header = BaseHeader::decode(&bytes, &samples::ID).unwrap();
    assert_eq!(header, sample.header);
    assert_eq!(header.encode()[..], bytes[..]);
    // The bytes of `lifetime_errors` were reserved at first: such a header counts no failed request.
    let mut earlier = sample.header.clone();
    earlier.lifetime.errors = 0;
    let bytes = image("v1-base-header.bin", &earlier.encode()[..]);
    assert_eq!(BaseHeader::decode(&bytes, &samples::ID).unwrap(), earlier);
    assert_eq!(earlier.encode()[..], bytes[..]);
    let bytes = image("v1-base-directory.bin", &sample.directory_bytes);
    let directory = decode_directory(&bytes, &header, sample.region_bytes).unwrap();
    assert_eq!(directory, sample.directory);
    let again = encode_directory(&directory, &samples::ID, header.base_sequence);
    assert_eq!(again.bytes, bytes);
}

/// Decodes a section image with the directory entry derived from its own bytes.
fn decode_image(
    bytes: &[u8],
    sample: &samples::SampleBase,
) -> Result<Vec<samples::OwnedEntry>, Corruption> {
    // An image does not contain the stored length. A plain section has that of its raw bytes; a
    // compressed one ends with the last nonzero byte, because a zstd frame of the sample does not
    // end with zero.
    let plain = bytes[60..64] == [0; 4];
    let padding_at = bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let stored_len = if plain {
        64 + sample.directory[0].raw_len as usize
    } else {
        padding_at
    };
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
