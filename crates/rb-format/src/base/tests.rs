//! Bounds, sizes and speed of the checkpoint base.

use super::*;
use crate::tests::samples::{self, ID, LIMITS, OwnedEntry, SampleBase};
use crate::{Corruption, FORMAT_BLOCK, Geometry, Identity, LogPosition, StoreUuid, key_hash};

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

/// What decoding says to a base whose first sample entry was changed.
fn refusal(change: impl FnOnce(&mut OwnedEntry)) -> &'static str {
    let mut entries = samples::varied_entries();
    change(&mut entries[0]);
    let e = &mut entries[0];
    e.entry.key_hash = key_hash(&ID.uuid, &e.key);
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
    let too_long_for_its_class = |e: &mut OwnedEntry| {
        (e.entry.slot, e.entry.payload_len) = (0, (64 << 10) + 1);
    };
    assert_eq!(refusal(too_long_for_its_class), "payload length");
}

/// A section that is sound, but of another base or another place in this one.
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
    let mut by_entries = SectionBuilder::new(0..=u64::MAX, LogPosition::FIRST);
    let small = OwnedEntry::of(samples::entries(1, 9, 1)[0].borrowed());
    assert!(by_entries.is_empty());
    let taken = std::iter::repeat_with(|| by_entries.push(&small.borrowed())).take_while(|t| *t);
    assert_eq!(taken.count(), SECTION_ENTRIES_MAX);
    assert_eq!(by_entries.len(), SECTION_ENTRIES_MAX);

    let mut by_bytes = SectionBuilder::new(0..=u64::MAX, LogPosition::FIRST);
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
    let (entry, bytes) = by_bytes.finish(&ID, 1, 0, Compression::Plain);
    assert!(entry.raw_len <= SECTION_RAW_MAX as u64);
    assert_eq!(bytes.len() as u64, entry.padded_len());
}

#[test]
fn an_empty_base_is_a_base() {
    let base = samples::base(&[], Compression::Plain);
    assert!(base.directory_bytes.is_empty());
    let directory = decode_directory(&[], &base.header, FORMAT_BLOCK as u64);
    assert_eq!(directory, Ok(vec![]));
}

#[test]
fn directories_that_point_astray_are_refused() {
    let sample = samples::base(&samples::entries(40_000, 41_000, 7), Compression::Plain);
    assert_eq!(sample.directory.len(), 3);
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
    assert_eq!(
        field(|d, _| (d[0].hash_first, d[0].hash_last) = (2, 1)),
        "first hash"
    );
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
    let too_small = decode_directory(&sample.directory_bytes, &sample.header, 1 << 20);
    assert_eq!(refused_field(too_small.unwrap_err()), "padded length");
}

#[test]
fn too_many_bad_slots_keep_the_lowest() {
    let mut header = samples::base(&[], Compression::Plain).header;
    header.bad_slots = (0..2000).rev().flat_map(|slot| [slot, slot]).collect();
    let decoded = BaseHeader::decode(&header.encode()[..], &ID).unwrap();
    assert_eq!(
        decoded.bad_slots,
        (0..BAD_SLOTS_MAX as u32).collect::<Vec<_>>()
    );
}

/// A base of every slot at the longest lengths, incompressible, in 64 shards, fits its region.
#[test]
fn the_worst_base_fits_its_region() {
    for (slots, key_len, metadata_len) in [
        (20_000, 512, 0),
        (7000, 1024, 256),
        (50_000, 1, 0),
        (64, 1, 0),
    ] {
        // One slot in 16 claimed twice.
        let entries = slots + slots / 16;
        let mut bytes = FORMAT_BLOCK as u64;
        let mut sections = 0;
        let entry = &mut samples::entries(1, 1, 1)[0];
        (entry.key, entry.metadata) = (vec![9; key_len], vec![9; metadata_len]);
        for shard in 0..64 {
            let mut left = entries / 64 + u64::from(shard < entries % 64);
            while left > 0 {
                let mut builder = SectionBuilder::new(0..=u64::MAX, LogPosition::FIRST);
                while left > 0 && builder.push(&entry.borrowed()) {
                    left -= 1;
                }
                bytes += builder
                    .finish(&ID, 1, sections, Compression::Plain)
                    .0
                    .padded_len();
                sections += 1;
            }
        }
        let directory = vec![
            samples::base(&samples::varied_entries(), Compression::Plain).directory
                [0];
            sections as usize
        ];
        bytes += encode_directory(&directory, &ID, 1).bytes.len() as u64;
        let region = base_region_bytes(slots, key_len as u32, metadata_len as u32);
        assert!(
            bytes <= region,
            "{slots} slots need {bytes}, the region has {region}"
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
    let stored: u64 = base.directory.iter().map(|entry| entry.padded_len()).sum();
    let per_entry = stored as f64 / entries.len() as f64 - 32.0;
    println!("{per_entry:.2} bytes an entry besides its key of 32");
    assert!(
        per_entry <= 24.0,
        "{per_entry} bytes an entry besides its key"
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
    // A bomb: more than the bound fails instead of growing.
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
