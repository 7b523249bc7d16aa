//! rb-format alone reads which slots of a store are live, as recovery does.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rb_core::{ClassRequest, FormatOptions, Put, PutOptions, Share, Store, StoreOptions};
use rb_format::{
    BaseHeader, FORMAT_BLOCK, Geometry, KeyLimits, LiveSlots, LiveValue, LogBlock,
    SUPERBLOCK_A_OFFSET, Superblock, base_header_offsets, decode_directory, decode_section,
    padded_len,
};
use rb_testkit::values::next_number;

fn read(file: &File, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

/// Reads the newest base and the first ring of an undamaged store.
fn live(path: &Path) -> Vec<LiveValue> {
    let file = File::open(path).unwrap();
    let block = FORMAT_BLOCK as u64;
    let superblock = Superblock::decode(&read(&file, SUPERBLOCK_A_OFFSET, block)).unwrap();
    let (identity, geometry) = (superblock.identity, Geometry::new(&superblock));
    let limits = KeyLimits {
        key_len_max: superblock.key_len_max,
        metadata_len_max: superblock.metadata_len_max,
    };
    let bases = [&superblock.base_a, &superblock.base_b]
        .into_iter()
        .filter_map(|region| {
            let offset = base_header_offsets(region)[0];
            let header = BaseHeader::decode(&read(&file, offset, block), &identity);
            Some((header.ok()?, region))
        });
    let (header, region) = bases
        .max_by_key(|(header, _)| header.base_sequence)
        .unwrap();

    let mut slots = LiveSlots::default();
    slots.add_header(&header);
    let directory = read(
        &file,
        region.offset + header.directory_offset,
        padded_len(header.directory_len),
    );
    let directory = decode_directory(&directory, &header, region.bytes).unwrap();
    for (at, entry) in (0..).zip(&directory) {
        let bytes = read(&file, region.offset + entry.offset, entry.padded_len());
        let mut add = |entry: rb_format::BaseEntry<'_>| slots.add_entry(&entry);
        decode_section(&bytes, entry, at, &header, &geometry, limits, &mut add).unwrap();
    }
    let mut position = header.position;
    loop {
        let offset = superblock.log_block_offsets(position.sequence)[0];
        let bytes = read(&file, offset, block);
        match LogBlock::decode(&bytes, &identity) {
            Ok(block) if block.continues(&position) => {
                slots.add_block(&block);
                position = block.position();
            }
            _ => return slots.into_values().collect(),
        }
    }
}

/// Puts, replacements, removes, evictions and checkpoints at random, and sessions that end without a clean shutdown.
#[test]
fn live_slots_are_those_that_a_store_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let slots = ClassRequest {
        slot_bytes: 64 << 10,
        share: Share::Slots(24),
    };
    rb_core::format(&FormatOptions::new(&path, vec![slots])).unwrap();
    let mut seed = 31;
    let mut below = |limit| next_number(&mut seed) % limit;
    for round in 0..12 {
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        for _ in 0..60 {
            let key = format!("key {}", below(40));
            match below(12) {
                0..=7 => {
                    let value = vec![round; 1 + below(60_000) as usize];
                    let put = Put::new(key.as_bytes(), &value);
                    store.put_many(vec![put], PutOptions::default())[0]
                        .as_ref()
                        .unwrap();
                }
                8..=10 => _ = store.remove(key.as_bytes()).unwrap(),
                _ => store.checkpoint().unwrap(),
            }
        }
        store.sync().unwrap();
        let mut expected = Vec::new();
        store.for_each(|entry| {
            expected.push((entry.slot, entry.generation, entry.len, entry.key));
            true
        });
        expected.sort();
        if round % 2 == 0 {
            store.close().unwrap();
        }
        drop(store);
        let found = live(&path).into_iter().map(|value| {
            assert_eq!(value.slots.len(), 1);
            let slot = value.slots[0];
            (slot, value.generation.0, value.payload_len, value.key)
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "round {round}");
    }
}
