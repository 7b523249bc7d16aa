//! Targets for what a base header names: the directory and the sections.

use rb_format::{
    Corruption, DirectoryEntry, Geometry, Identity, KeyLimits, SECTION_RAW_MAX, decode_directory,
    decode_section, encode_directory, padded_len,
};

use crate::forge::patch;
use crate::input::Input;
use crate::samples::{self, ID};

/// Bytes of a section before its body.
const SECTION_HEAD: usize = 64;
const ENTRY_LEN: usize = 64;

/// Checks that the directory's sections do not overlap and are inside the region.
pub(crate) fn directory(data: &[u8]) {
    let mut input = Input::new(data);
    let mut base = samples::base();
    let mode = input.byte();
    let entries = usize::from(input.byte() % 5);
    let mut bytes = base.directory_bytes.repeat(2)[..ENTRY_LEN * entries].to_vec();
    if mode & 1 == 0 {
        base.header.entries = input.number();
    }
    if mode & 2 == 0 {
        base.region_bytes = input.number();
        base.header.directory_offset = input.number() / 4096 * 4096 % (1 << 63);
    }
    while !input.is_empty() && !bytes.is_empty() {
        let entry = input.below(entries);
        patch(&mut input, &mut bytes[entry * ENTRY_LEN..]);
    }
    base.header.sections = entries as u32;
    base.header.directory_len = bytes.len() as u64;
    base.header.directory_checksum = directory_checksum(&ID, base.header.base_sequence, &bytes);
    bytes.resize(padded_len(bytes.len() as u64) as usize, 0);
    if mode & 4 == 0 {
        base.header.entries = (0..entries)
            .map(|n| {
                u64::from(bytes[n * ENTRY_LEN + 56]) | u64::from(bytes[n * ENTRY_LEN + 57]) << 8
            })
            .sum();
    }
    let Ok(decoded) = decode_directory(&bytes, &base.header, base.region_bytes) else {
        return;
    };
    let encoded = encode_directory(&decoded, &ID, base.header.base_sequence);
    assert_eq!(encoded.bytes, bytes, "decoded, but not canonical");
    let mut end = 4096;
    for entry in &decoded {
        assert!(entry.offset >= end && entry.raw_len <= SECTION_RAW_MAX as u64);
        end = entry.offset + entry.padded_len();
        assert!(
            end <= base.region_bytes - 4096,
            "{entry:?} in {}",
            base.region_bytes
        );
    }
}

/// Returns the directory checksum that a header holds, as defined in `docs/format.md`.
pub(crate) fn directory_checksum(identity: &Identity, base_sequence: u64, bytes: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&rb_format::magic::MAGIC_DIRECTORY);
    hasher.update(&identity.uuid.0);
    hasher.update(&identity.epoch.to_le_bytes());
    hasher.update(&base_sequence.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize().into()
}

/// Decodes a section whose body is the input: plain, compressed by the target, or a zstd frame from the fuzzer; or the
/// sample with patches. Every decoded entry must keep the store's limits.
pub(crate) fn section(data: &[u8]) {
    let mut input = Input::new(data);
    let base = samples::base();
    let mode = input.byte();
    let mut entry: DirectoryEntry = base.directory[0];
    let sample = &base.sections[0][..entry.stored_len as usize];
    let mut head = sample[..SECTION_HEAD].to_vec();
    let mut body = sample[SECTION_HEAD..].to_vec();
    if mode & 8 == 0 {
        entry.entries = input.number() as u32;
        head[56..60].copy_from_slice(&entry.entries.to_le_bytes());
    }
    let claimed = input.number();
    let mut codec = 0_u32;
    match mode % 4 {
        0 => body = input.rest().to_vec(),
        1 => {
            let limit = body.len();
            while !input.is_empty() {
                let at = input.below(limit);
                patch(&mut input, &mut body[at..]);
            }
        }
        2 => {
            let raw = input.rest();
            let times = 1 + claimed as usize % 64;
            let raw = raw.repeat(times);
            entry.raw_len = raw.len() as u64;
            body = zstd::bulk::compress(&raw, 1).unwrap_or_default();
            codec = 1;
        }
        _ => {
            body = input.rest().to_vec();
            codec = 1;
        }
    }
    if codec == 0 {
        entry.raw_len = body.len() as u64;
    }
    if mode & 16 != 0 {
        entry.raw_len = claimed;
    }
    head[48..56].copy_from_slice(&entry.raw_len.to_le_bytes());
    head[60..64].copy_from_slice(&codec.to_le_bytes());
    let mut bytes = [head, body].concat();
    if mode & 32 != 0 && !bytes.is_empty() {
        patch(
            &mut Input::new(&claimed.to_le_bytes()),
            &mut bytes[..SECTION_HEAD],
        );
    }
    entry.stored_len = bytes.len() as u64;
    entry.checksum = crc32fast::hash(&bytes).into();
    bytes.resize(padded_len(entry.stored_len) as usize, 0);
    check_section(&bytes, &entry, &base);
}

fn check_section(bytes: &[u8], entry: &DirectoryEntry, base: &samples::Base) {
    let geometry = Geometry::new(&samples::superblock());
    let limits = KeyLimits {
        key_len_max: samples::KEY_LEN_MAX,
        metadata_len_max: samples::METADATA_LEN_MAX,
    };
    let mut found = 0_u32;
    let decoded = decode_section(bytes, entry, 0, &base.header, &geometry, limits, &mut |e| {
        found += 1;
        let slots = [e.slot].into_iter().chain(e.more.iter());
        let capacity: u64 = slots
            .map(|slot| geometry.slot_capacity(slot).expect("the slot exists"))
            .sum();
        assert!((1..=capacity).contains(&e.payload_len.into()));
        assert!((1..=samples::KEY_LEN_MAX as usize).contains(&e.key.len()));
        assert!(e.metadata.len() <= samples::METADATA_LEN_MAX as usize);
    });
    match decoded {
        Ok(()) => assert_eq!(found, entry.entries),
        Err(why) => assert!(
            !matches!(why, Corruption::CodecDisabled { .. }),
            "the fuzzer is built with zstd"
        ),
    }
}
