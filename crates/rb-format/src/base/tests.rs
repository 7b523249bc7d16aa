//! Bounds, sizes and speed of the checkpoint base.

use super::*;
use crate::tests::samples::{self, ID, LIMITS, OwnedEntry, SampleBase};
use crate::{
    Corruption, FORMAT_BLOCK, Geometry, Identity, LogPosition, StoreUuid, key_hash, padded_len,
};

fn decode_all(
    base: &SampleBase,
    geometry: &Geometry,
    limits: KeyLimits,
) -> Result<u64, Corruption> {
    let mut entries = 0;
    let directory = decode_directory(&base.directory_bytes, &base.header, base.region_bytes)?;
    for (number, (entry, bytes)) in directory.iter().zip(&base.sections).enumerate() {
        let each = &mut |_: BaseEntry<'_>| entries += 1;
        decode_section(
            bytes,
            entry,
            number as u32,
            &base.header,
            geometry,
            limits,
            each,
        )?;
    }
    Ok(entries)
}

fn refused_field(error: Corruption) -> &'static str {
    match error {
        Corruption::Field { field, .. } | Corruption::Mismatch { field, .. } => field,
        other => panic!("{other}"),
    }
}

/// Returns the error of decoding a base whose first sample entry was changed.
fn refusal(change: impl FnOnce(&mut OwnedEntry)) -> &'static str {
    let mut entries = samples::varied_entries();
    change(&mut entries[0]);
    let e = &mut entries[0];
    e.entry.key_hash = key_hash(&ID.uuid, &e.key);
    while section_range(e.entry.key_hash) != 0 {
        e.key[0] += 1;
        e.entry.key_hash = key_hash(&ID.uuid, &e.key);
    }
    let base = samples::base(&entries, Compression::Plain);
    let geometry = Geometry::new(&samples::superblock());
    refused_field(decode_all(&base, &geometry, LIMITS).unwrap_err())
}

#[test]
fn entries_beyond_the_stores_limits_are_refused() {
    assert_eq!(refusal(|e| e.key = vec![1; 513]), "key length");
    assert_eq!(refusal(|e| e.metadata = vec![1; 33]), "metadata length");
    assert_eq!(refusal(|e| e.entry.slot = 41_000), "slot");
    assert_eq!(refusal(|e| e.entry.payload_len = 0), "payload length");
    assert_eq!(
        refusal(|e| e.entry.payload_checksum = 1 << 32),
        "payload checksum"
    );
    let further = |more: &[u32], payload_len| {
        let more = more.to_vec();
        refusal(move |e| {
            (e.entry.slot, e.more, e.entry.payload_len) = (40_000, more, payload_len);
        })
    };
    assert_eq!(further(&[41_000], 2 << 20), "slot");
    assert_eq!(further(&[40_001], 1 << 20), "payload length");
    assert_eq!(further(&[40_001], (2 << 20) + 1), "payload length");
    let smaller = "capacity of a value's further slot";
    assert_eq!(further(&[39_999], 2 << 20), smaller);
    let first_smaller = |e: &mut OwnedEntry| {
        (e.entry.slot, e.more, e.entry.payload_len) = (39_999, vec![40_000], 100_000);
    };
    assert_eq!(refusal(first_smaller), "capacity of a value's first slot");
    let too_long_for_its_class = |e: &mut OwnedEntry| {
        (e.entry.slot, e.entry.payload_len) = (0, (64 << 10) + 1);
    };
    assert_eq!(refusal(too_long_for_its_class), "payload length");
}

/// A valid section of another base, or at another position in this one.
#[test]
fn a_section_in_the_wrong_place_is_refused() {
    let base = samples::base(&samples::varied_entries(), Compression::Plain);
    let geometry = Geometry::new(&samples::superblock());
    let decode = |section, header: &BaseHeader, entry: &DirectoryEntry| {
        let bytes = &base.sections[0];
        decode_section(
            bytes,
            entry,
            section,
            header,
            &geometry,
            LIMITS,
            &mut |_| {},
        )
        .unwrap_err()
    };
    let entry = base.directory[0];
    assert_eq!(
        refused_field(decode(1, &base.header, &entry)),
        "section number"
    );
    let later = BaseHeader {
        base_sequence: 5,
        ..base.header.clone()
    };
    assert_eq!(refused_field(decode(0, &later, &entry)), "base sequence");
    let identity = Identity {
        uuid: StoreUuid([1; 16]),
        ..ID
    };
    let foreign = decode(
        0,
        &BaseHeader {
            identity,
            ..base.header.clone()
        },
        &entry,
    );
    assert!(
        matches!(foreign, Corruption::WrongStore { .. }),
        "{foreign}"
    );
    let narrow = DirectoryEntry {
        hash_last: 0,
        ..entry
    };
    assert_eq!(refused_field(decode(0, &base.header, &narrow)), "key hash");
    let short = decode_section(&[], &entry, 0, &base.header, &geometry, LIMITS, &mut |_| {});
    assert!(matches!(short, Err(Corruption::Truncated { .. })));
}

#[test]
fn sections_are_full_at_their_entries_and_at_their_bytes() {
    let mut by_entries = SectionBuilder::new(0, LogPosition::FIRST);
    let small = samples::varied_entries().swap_remove(0);
    assert!(by_entries.is_empty());
    let taken = std::iter::repeat_with(|| by_entries.push(&small.borrowed())).take_while(|t| *t);
    assert_eq!(taken.count(), SECTION_ENTRIES_MAX);
    assert_eq!(by_entries.len(), SECTION_ENTRIES_MAX);

    let mut by_bytes = SectionBuilder::new(0, LogPosition::FIRST);
    let large = OwnedEntry {
        key: vec![7; 1024],
        metadata: vec![7; 256],
        ..small
    };
    let taken = std::iter::repeat_with(|| by_bytes.push(&large.borrowed())).take_while(|t| *t);
    assert_eq!(
        taken.count(),
        SECTION_RAW_MAX / (1024 + 256 + columns::PLANES)
    );
    assert!(by_bytes.raw_len() >= SECTION_RAW_MIN);
    let (entry, bytes) = by_bytes.finish(&ID, 1, 0, Compression::Plain);
    assert!(entry.raw_len <= SECTION_RAW_MAX as u64);
    assert_eq!(bytes.len() as u64, entry.padded_len());
}

#[test]
fn an_empty_base_is_a_base() {
    let base = samples::base(&[], Compression::Plain);
    assert!(base.directory_bytes.is_empty());
    let directory = decode_directory(&[], &base.header, 2 * FORMAT_BLOCK as u64);
    assert_eq!(directory, Ok(vec![]));
}

#[test]
fn directories_that_point_astray_are_refused() {
    let sample = samples::base(&samples::entries(40_000, 41_000, 7), Compression::Plain);
    assert_eq!(sample.directory.len(), SECTION_RANGES);
    let refusal = |change: fn(&mut Vec<DirectoryEntry>, &mut BaseHeader)| {
        let (mut directory, mut header) = (sample.directory.clone(), sample.header.clone());
        change(&mut directory, &mut header);
        let encoded = encode_directory(&directory, &ID, header.base_sequence);
        header.directory_checksum = encoded.checksum;
        decode_directory(&encoded.bytes, &header, sample.region_bytes).unwrap_err()
    };
    let field = |change| refused_field(refusal(change));
    assert_eq!(field(|d, _| d[0].offset = 0), "section offset");
    assert_eq!(field(|d, _| d[1].offset = d[0].offset), "section offset");
    assert_eq!(field(|d, _| d.swap(0, 1)), "section offset");
    assert_eq!(
        field(|d, _| d[2].offset = u64::MAX - 4095),
        "section offset"
    );
    assert_eq!(field(|d, _| d[0].stored_len = u64::MAX), "stored length");
    assert_eq!(
        field(|d, _| d[0].raw_len = SECTION_RAW_MAX as u64 + 1),
        "raw length"
    );
    assert_eq!(field(|d, _| d[0].entries = 0), "entries");
    assert_eq!(
        field(|d, _| d[0].entries = SECTION_ENTRIES_MAX as u32 + 1),
        "entries"
    );
    assert_eq!(field(|d, _| d[0].entries -= 1), "entries of all sections");
    assert_eq!(field(|d, _| d[0].hash_first += 1), "first hash");
    assert_eq!(field(|d, _| d[1].hash_first -= 1), "first hash");
    assert_eq!(field(|d, _| d[0].hash_last = u64::MAX), "last hash");
    assert_eq!(field(|d, _| d[0].log_sequence = 49), "log sequence");
    assert_eq!(field(|_, h| h.sections = u32::MAX), "length");
    assert_eq!(
        field(|_, h| h.directory_offset = i64::MAX as u64 - 4095),
        "padded length"
    );
    let unaligned = refusal(|d, _| d[0].offset += 1);
    assert!(
        matches!(unaligned, Corruption::Unaligned { .. }),
        "{unaligned}"
    );
    let overlap = refusal(|_, h| h.directory_offset = 8192);
    assert!(matches!(overlap, Corruption::Overlap { .. }), "{overlap}");
    // The last block belongs to neither the directory nor a section.
    let block = FORMAT_BLOCK as u64;
    let into_header = sample.region_bytes - block;
    let refused = decode_directory(&sample.directory_bytes, &sample.header, into_header);
    assert_eq!(refused_field(refused.unwrap_err()), "padded length");
    let mut section_last = sample.header.clone();
    section_last.directory_offset = block;
    let mut moved = sample.directory.clone();
    for entry in &mut moved {
        entry.offset += sample.directory_bytes.len() as u64;
    }
    let encoded = encode_directory(&moved, &ID, section_last.base_sequence);
    section_last.directory_checksum = encoded.checksum;
    let decode = |bytes| decode_directory(&encoded.bytes, &section_last, bytes);
    assert_eq!(decode(sample.region_bytes), Ok(moved.clone()));
    assert_eq!(
        refused_field(decode(sample.region_bytes - block).unwrap_err()),
        "section offset"
    );
    let too_small = decode_directory(&sample.directory_bytes, &sample.header, 1 << 20);
    assert_eq!(refused_field(too_small.unwrap_err()), "padded length");
}

#[test]
fn too_many_bad_slots_and_blocks_keep_the_lowest() {
    let mut header = samples::base(&[], Compression::Plain).header;
    header.bad_blocks = (512..1000).rev().flat_map(|block| [block, block]).collect();
    header.bad_slots = (0..2000).rev().flat_map(|slot| [slot, slot]).collect();
    let decoded = BaseHeader::decode(&header.encode()[..], &ID).unwrap();
    assert_eq!(
        decoded.bad_slots,
        (0..BAD_SLOTS_MAX as u32).collect::<Vec<_>>()
    );
    let blocks = 512..512 + BAD_BLOCKS_MAX as u64;
    assert_eq!(decoded.bad_blocks, blocks.collect::<Vec<_>>());
}

/// Decodes a valid header after `change`, with a correct checksum, and returns the error.
fn forged_header(change: impl FnOnce(&mut [u8])) -> Corruption {
    let mut block = samples::base(&[], Compression::Plain).header.encode();
    change(&mut block[..]);
    crate::block::seal(&mut block);
    BaseHeader::decode(&block[..], &ID).expect_err("the change is not noticed")
}

#[test]
fn forged_lists_of_a_header_are_refused_by_name() {
    // The sample has two bad blocks at 248 and three bad slots at 760.
    let field = |change: fn(&mut [u8])| refused_field(forged_header(change));
    assert_eq!(field(|b| b[116] = 65), "bad blocks");
    assert_eq!(field(|b| b.copy_within(248..256, 256)), "bad block");
    assert_eq!(field(|b| b[263] = 0x80), "bad block");
    assert_eq!(field(|b| b[112..114].fill(0xff)), "bad slots");
    assert_eq!(field(|b| b.copy_within(760..764, 764)), "bad slot");
    for at in [192, 247, 248 + 16, 759, 760 + 12, 4087] {
        let error = forged_header(|b| b[at] = 1);
        assert!(
            matches!(error, Corruption::Reserved { .. }),
            "{at}: {error}"
        );
    }
}

#[test]
fn headers_stand_at_both_ends_of_a_region() {
    let sb = samples::superblock();
    let [first, last] = base_header_offsets(&sb.base_a);
    assert_eq!(first, sb.base_a.offset);
    assert_eq!(last + FORMAT_BLOCK as u64, sb.base_b.offset);
}

/// A base of every slot at the longest lengths, incompressible, with one slot in 16 claimed twice,
/// fits its region, with a header at each end and the slack left over. The sections of every range
/// are as small as allowed, and the last of each has as few entries as possible.
#[test]
fn the_worst_base_fits_its_region() {
    let listed = samples::base(&samples::varied_entries(), Compression::Plain).directory[0];
    for (slots, key_len, metadata_len) in [
        (200_000, 512, 0),
        (20_000, 1024, 256),
        (400_000, 1, 0),
        (64, 1, 0),
        (1, 1024, 256),
    ] {
        let mut entries = slots + slots / 16;
        let entry = &mut samples::varied_entries()[0];
        (entry.key, entry.metadata) = (vec![9; key_len], vec![9; metadata_len]);
        let section_of = |entries: u64| {
            let mut builder = SectionBuilder::new(0, LogPosition::FIRST);
            let mut taken = 0;
            while taken < entries && builder.raw_len() < SECTION_RAW_MIN {
                assert!(builder.push(&entry.borrowed()));
                taken += 1;
            }
            (taken, builder.finish(&ID, 1, 0, Compression::Plain).0)
        };
        let (mut bytes, mut sections) = (0, 0);
        // All ranges except one have a section of one entry, as far as there are entries.
        let ranges = (entries - 1).min(SECTION_RANGES as u64 - 1);
        bytes += ranges * section_of(1).1.padded_len();
        sections += ranges;
        entries -= ranges;
        let (full, entry_of_full) = section_of(u64::MAX);
        bytes += entries / full * entry_of_full.padded_len();
        sections += entries / full;
        if !entries.is_multiple_of(full) {
            bytes += section_of(entries % full).1.padded_len();
            sections += 1;
        }
        let directory = vec![listed; sections as usize];
        bytes += encode_directory(&directory, &ID, 1).bytes.len() as u64;
        let entry_len = (columns::PLANES + key_len + metadata_len) as u64;
        let raw = ((slots + slots / 16) * entry_len).min(SECTION_RAW_MIN as u64 + entry_len);
        let slack = (bytes / 16).max(padded_len(64 + raw));
        let region = base_region_bytes(slots, key_len as u32, metadata_len as u32);
        let needed = bytes + slack + 2 * FORMAT_BLOCK as u64;
        assert!(
            needed <= region,
            "{slots} slots need {needed}, the region has {region}"
        );
        assert!(region.is_multiple_of(4096));
    }
    assert_eq!(base_region_bytes(u64::MAX, 1024, 256) % 4096, 0);
}

#[cfg(feature = "zstd")]
#[test]
fn columns_compress_to_their_information() {
    let entries = samples::entries(4 * SECTION_ENTRIES_MAX, 2_000_000, 11);
    let base = samples::base(&entries, Compression::Zstd { level: 1 });
    let stored: u64 = base.directory.iter().map(|entry| entry.stored_len).sum();
    let per_entry = stored as f64 / entries.len() as f64 - 32.0;
    println!("{per_entry:.2} bytes per entry without its key of 32");
    assert!(
        per_entry <= 24.0,
        "{per_entry} bytes per entry without its key"
    );
}

#[cfg(feature = "zstd")]
#[test]
fn a_frame_of_another_length_is_refused() {
    let raw = vec![5; 10_000];
    let stored = zstd::bulk::compress(&raw, 1).unwrap();
    assert_eq!(
        SectionScratch::default()
            .decompress(&stored, 10_000)
            .unwrap(),
        raw
    );
    // A decompression bomb: more than the bound fails instead of growing.
    assert!(matches!(
        SectionScratch::default().decompress(&stored, 9999),
        Err(Corruption::Codec { .. })
    ));
    assert!(matches!(
        SectionScratch::default().decompress(&stored, 10_001),
        Err(Corruption::Mismatch { .. })
    ));
}

/// `cargo test -p rb-format --release -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement: only a release build on a quiet machine says something"]
fn speed_of_half_a_million_entries() {
    let slots = samples::superblock().runs[0].count as u32;
    let entries = samples::entries(500_000, slots, 5);
    let geometry = Geometry::new(&samples::superblock());
    for compression in [Compression::Plain, Compression::Zstd { level: 1 }] {
        let start = std::time::Instant::now();
        let base = samples::base(&entries, compression);
        let encoded = start.elapsed();
        let start = std::time::Instant::now();
        assert_eq!(decode_all(&base, &geometry, LIMITS), Ok(500_000));
        let decoded = start.elapsed();
        println!(
            "{compression:?}: encode {encoded:?}, decode {decoded:?}, {} bytes",
            base.region_bytes
        );
    }
}
