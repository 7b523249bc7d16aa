//! Tests of what the format reserves for later: features, label, unused areas, values of several slots.

use std::ops::Range;
use std::sync::Arc;

use rb_core::{
    AuditOptions, AuditState, ClassRequest, EngineKind, FormatOptions, OpenError, Put, PutOptions,
    SeededRandom, Share, Side, Superblock, Target, audit, format, inspect, repair,
};
use rb_format::{
    BaseHeader, Continuation, FORMAT_BLOCK, Features, Generation, LABEL_LEN, LogBlock, LogPosition,
    SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET, base_header_offsets, log_block_offset,
};
use rb_testkit::MemDevice;

use crate::support::{Sim, key, value};

/// Makes a closed store whose superblocks were changed.
fn with(change: impl FnOnce(&mut Superblock)) -> (Sim, Superblock) {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(&key(1), &value(1, 100)).unwrap();
    let mut superblock = store.superblock().clone();
    store.close().unwrap();
    change(&mut superblock);
    for offset in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
        sim.device.poke(offset, &superblock.encode()[..]);
    }
    (sim, superblock)
}

fn with_features(compatible: u64, read_only_compatible: u64, incompatible: u64) -> Sim {
    let features = Features {
        compatible,
        read_only_compatible,
        incompatible,
    };
    with(|superblock| superblock.features = features).0
}

fn copies(sim: &Sim) -> [Superblock; 2] {
    let image = sim.device.live_image();
    [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET]
        .map(|offset| Superblock::decode(&image[offset as usize..]).unwrap())
}

#[track_caller]
fn refused(opened: Result<impl Sized, OpenError>, words: &str) {
    let Err(why @ OpenError::Features { .. }) = opened else {
        panic!("it is opened, or refused for another reason");
    };
    assert!(why.to_string().contains(words), "{why}");
}

#[test]
fn unknown_compatible_features_are_ignored() {
    let sim = with_features(1 << 5, 0, 0);
    let store = sim.open();
    assert!(store.get(&key(1)).unwrap().unwrap() == value(1, 100)[..]);
    store.put(&key(2), &value(2, 100)).unwrap();
    store.close().unwrap();
}

#[test]
fn unknown_read_only_features_refuse_writing_and_nothing_else() {
    let words = "read-only compatible features that this program does not know: bits 0, 5 (0x21)";
    let sim = with_features(0, 0x21, 0);
    let before = sim.device.live_image();
    refused(sim.try_open(|_| {}), words);
    refused(sim.try_open(|options| options.start_empty = true), words);
    let store = sim.open_with(|options| options.read_only = true);
    assert!(store.get(&key(1)).unwrap().unwrap() == value(1, 100)[..]);
    drop(store);
    let report = audit(sim.engine(), &AuditOptions::default()).unwrap();
    assert_eq!(
        (report.state, report.findings.len()),
        (AuditState::Clean, 0)
    );
    // There is something to repair, and repairing is writing.
    let first = sim.device.live_image();
    let store = Superblock::decode(&first).unwrap();
    sim.device.poke(store.base_a.offset, &[0xff; FORMAT_BLOCK]);
    let damaged = sim.device.live_image();
    let repaired = repair(sim.engine(), &AuditOptions::default(), |_| true);
    refused(repaired, words);
    assert!(
        sim.device.live_image() == damaged && first == before,
        "nothing was written"
    );
}

#[test]
fn unknown_incompatible_features_refuse_every_opening() {
    let words = "incompatible features that this program does not know: bit 63";
    let sim = with_features(0, 0, 1 << 63);
    let before = sim.device.live_image();
    refused(sim.try_open(|_| {}), words);
    refused(sim.try_open(|options| options.read_only = true), words);
    refused(sim.try_open(|options| options.start_empty = true), words);
    refused(audit(sim.engine(), &AuditOptions::default()), words);
    refused(inspect(sim.engine(), EngineKind::Auto, &Target::Log), words);
    let repaired = repair(sim.engine(), &AuditOptions::default(), |_| true);
    refused(repaired, words);
    assert!(sim.device.live_image() == before, "nothing was written");
    // It can still be inspected.
    let shown = inspect(
        sim.engine(),
        EngineKind::Auto,
        &Target::Superblock(Some(Side::A)),
    )
    .unwrap();
    assert_eq!(shown[0].refused, None);
    let field = |name: &str| shown[0].fields.iter().find(|field| field.name == name);
    let word = &field("features_incompatible").unwrap().value;
    assert_eq!(word, "0x8000000000000000");
}

/// Repairing a copy and starting empty write superblocks: fields that they do not know stay unchanged.
#[test]
fn a_superblock_that_is_rewritten_keeps_features_label_and_time() {
    let (sim, as_it_was) = with(|superblock| {
        superblock.features.compatible = 0x8000_0000_0000_0001;
        superblock.label = std::array::from_fn(|at| at as u8);
        superblock.formatted_at = 1_767_225_600;
    });
    for damaged in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
        sim.device.poke(damaged, &[0; FORMAT_BLOCK]);
        let store = sim.open();
        assert!(store.recovery().superblock_repaired);
        store.close().unwrap();
        assert_eq!(copies(&sim), [&as_it_was; 2].map(Clone::clone));
    }
    let store = sim.open_with(|options| options.start_empty = true);
    store.close().unwrap();
    for copy in copies(&sim) {
        assert_eq!(copy.identity.epoch, as_it_was.identity.epoch + 1);
        assert_eq!(copy.features, as_it_was.features);
        assert_eq!(copy.label, as_it_was.label);
        assert_eq!(copy.formatted_at, as_it_was.formatted_at);
    }
}

fn is_zero(image: &[u8], area: Range<u64>) -> bool {
    let area = area.start as usize..area.end as usize;
    image[area].iter().all(|byte| *byte == 0)
}

/// A device full of other data: areas that a store never writes are zero from the format on, also after a crash.
#[test]
fn format_zeroes_what_stays_unused() {
    let classes = vec![ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(8),
    }];
    let bytes = rb_format::device_bytes_for(&classes, 512, 0, None).unwrap();
    let sim = Sim::on(MemDevice::from_image(&vec![0xA5; bytes as usize]));
    let options = FormatOptions {
        formatted_at: 77,
        random: Arc::new(SeededRandom::new(1)),
        ..FormatOptions::new(sim.engine(), classes)
    };
    let superblock = format(&options).unwrap().superblock;
    assert_eq!(
        (superblock.formatted_at, superblock.label),
        (77, [0; LABEL_LEN])
    );
    assert_eq!(superblock.features, Features::default());
    let sim = sim.crash();
    let check = |sim: &Sim| {
        let image = sim.device.live_image();
        for area in superblock.unused_areas() {
            assert!(is_zero(&image, area.clone()), "{area:?}");
        }
    };
    check(&sim);
    let image = sim.device.live_image();
    // Base A has its header twice, and base B none.
    let block = |at: u64| &image[at as usize..at as usize + FORMAT_BLOCK];
    let [first, last] = base_header_offsets(&superblock.base_a);
    assert_eq!(block(first), block(last));
    for at in base_header_offsets(&superblock.base_b) {
        assert!(is_zero(&image, at..at + FORMAT_BLOCK as u64));
    }
    let store = sim.open();
    for round in 0..3 {
        (0..8).for_each(|n| assert!(store.put(&key(n), &value(n, 100 + round)).is_ok()));
        store.checkpoint().unwrap();
    }
    store.close().unwrap();
    check(&sim);
}

/// Makes a store with a value; also returns the end of its log.
fn synced() -> (Sim, Superblock, LogPosition) {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(&key(1), &value(1, 100)).unwrap();
    store.sync().unwrap();
    let superblock = store.superblock().clone();
    drop(store);
    let image = sim.device.live_image();
    let blocks = |sequence| {
        let at = log_block_offset(&superblock.log, sequence) as usize;
        let block = LogBlock::decode(&image[at..], &superblock.identity).ok()?;
        (block.sequence == sequence).then(|| block.position())
    };
    let end = (1..).map_while(blocks).last().unwrap();
    (sim, superblock, end)
}

/// The slots of a value, the first one and the further ones.
const SEVERAL: (u32, [u32; 2]) = (5, [3, 4]);

/// A further slot of a value has a header of its own, which is shown as such, sound or not.
#[test]
fn a_continuation_header_is_shown_as_one() {
    let (sim, superblock, _) = synced();
    let geometry = rb_format::Geometry::new(&superblock);
    let header = Continuation {
        generation: Generation::new(1, 100).unwrap(),
        slot: 4,
        first_slot: SEVERAL.0,
        number: 2,
        more_slots: 2,
    };
    let mut block = [0; FORMAT_BLOCK];
    header.encode_into(&superblock.identity, &mut block);
    let offset = geometry.slot_offset(4).unwrap();
    sim.device.poke(offset, &block);
    let look = || {
        inspect(sim.engine(), EngineKind::Auto, &Target::Slot(4))
            .unwrap()
            .remove(0)
    };
    let first_slot = |shown: &rb_core::Inspected| {
        let field = shown.fields.iter().find(|field| field.name == "first_slot");
        field.map(|field| field.value.clone())
    };
    let shown = look();
    assert_eq!(
        (first_slot(&shown), &shown.refused),
        (Some("5".to_owned()), &None)
    );
    sim.device.poke(offset + 53, &[9]);
    let shown = look();
    assert_eq!(first_slot(&shown), Some("5".to_owned()));
    assert!(shown.refused.unwrap().contains("checksum"));
}

/// A checkpoint keeps a section open for each hash range; when they exceed their common limit, the largest is written
/// although its range continues. With keys of 1 KiB that happens from some 15,800 entries on.
#[test]
fn a_base_of_more_than_the_open_sections_hold_is_whole() {
    const ENTRIES: u64 = 17_000;
    let long = |n: u64| [key(n), vec![b'.'; 1000]].concat();
    let sim = Sim::with(ENTRIES + 100, 1024, Some(64 << 20));
    let store = sim.open_with(|options| options.shards = Some(16));
    for first in (0..ENTRIES).step_by(100) {
        let keys: Vec<Vec<u8>> = (first..first + 100).map(long).collect();
        let puts = keys.iter().map(|key| Put::new(key, b"x")).collect();
        let stored = store.put_many(puts, PutOptions::default());
        assert!(stored.into_iter().all(|stored| stored.is_ok()));
    }
    store.checkpoint().unwrap();
    let superblock = store.superblock().clone();
    let sim = sim.crash();
    let mut block = [0; FORMAT_BLOCK];
    let newest = superblock.bases().map(|base| {
        sim.device.peek(base.offset, &mut block);
        BaseHeader::decode(&block, &superblock.identity).ok()
    });
    let newest = newest
        .into_iter()
        .flatten()
        .max_by_key(|base| base.base_sequence);
    let newest = newest.unwrap();
    assert_eq!(newest.entries, ENTRIES);
    let store = sim.open();
    assert_eq!(store.recovery().base_damage, [""; 0]);
    assert_eq!(store.stats().index.entries, ENTRIES);
    assert!((0..ENTRIES).all(|n| store.contains(&long(n))));
}
