//! Tests of metadata with right checksums and impossible contents. The fuzz target `image` found each of them.

use std::sync::Arc;

use rb_core::Superblock;
use rb_format::{
    BaseHeader, FORMAT_BLOCK, Generation, Geometry, LogBlock, LogEncoder, MoreSlots, Record,
    Region, SEQUENCE_MAX, log_block_offset,
};
use rb_io::OpKind;
use rb_testkit::MemDevice;

use crate::support::{EIO, Sim, key, value};

/// Changes a base's header and makes its checksum right.
fn forge_header(
    device: &Arc<MemDevice>,
    superblock: &Superblock,
    region: &Region,
    change: impl Fn(&mut BaseHeader),
) {
    let image = device.live_image();
    let at = region.offset as usize;
    let block = &image[at..at + FORMAT_BLOCK];
    let mut header = BaseHeader::decode(block, &superblock.identity).unwrap();
    change(&mut header);
    device.poke(region.offset, &header.encode()[..]);
}

/// Makes a store with two bases, closed cleanly.
fn closed() -> (Sim, Superblock, u32) {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(&key(1), &value(1, 100)).unwrap();
    store.checkpoint().unwrap();
    let mut slot = 0;
    store.for_each(|entry| {
        slot = entry.slot;
        true
    });
    let superblock = store.superblock().clone();
    store.close().unwrap();
    (sim, superblock, slot)
}

/// A log record with a generation that was never issued outlived every later put of its key: each was reported as
/// superseded by it.
#[test]
fn a_record_of_a_generation_that_its_writer_had_not_is_damage() {
    for generation in [Generation(u64::MAX), Generation(1)] {
        let (sim, superblock, slot) = closed();
        let image = sim.device.live_image();
        let blocks = |sequence| {
            let at = log_block_offset(&superblock.log, sequence) as usize;
            let block = LogBlock::decode(&image[at..], &superblock.identity).ok()?;
            (block.sequence == sequence).then(|| block.position())
        };
        let end = (1..).map_while(blocks).last().unwrap();
        let mut encoder = LogEncoder::new(superblock.identity, 1, end);
        let record = Record::Put {
            key: &key(1),
            slot,
            more: MoreSlots::NONE,
            generation,
            payload_len: 100,
            payload_checksum: 1,
            placement: 0,
            policy: 0,
            expiry: 0,
            metadata: &[],
        };
        encoder.push(&record, 0);
        encoder.seal(0);
        // The audit named the block at the log's end instead.
        encoder.push(&Record::Close, 0);
        encoder.seal(0);
        let offset = log_block_offset(&superblock.log, end.sequence);
        sim.device.poke(offset, &encoder.take_sealed().bytes);
        let named = format!("log block {}", end.sequence);
        let found = sim.audit().findings;
        assert!(
            found
                .iter()
                .any(|found| found.structure == named && found.offset == offset)
        );
        let store = sim.open();
        let lost = store.recovery().lost_metadata.clone().unwrap();
        assert!(lost.contains("generation"), "{lost}");
        assert!(store.put(&key(1), b"new").unwrap().is_written());
    }
}

/// Numbers at the end of their range overflowed when the next number was computed, in debug builds with a panic. The
/// decoders now reject them far below, and no store is written with numbers that have no successor.
#[test]
fn numbers_that_no_store_reaches_are_an_error_with_words() {
    let (sim, superblock, _) = closed();
    for sequence in [SEQUENCE_MAX / 2 + 1, SEQUENCE_MAX] {
        for region in [&superblock.base_a, &superblock.base_b] {
            forge_header(&sim.device, &superblock, region, |header| {
                header.base_sequence = sequence;
                header.position.sequence = sequence;
            });
        }
        let words = sim.try_open(|_| {}).unwrap_err().to_string();
        assert!(words.contains("over the limit"), "{words}");
    }
    let too_high = Superblock {
        sequence: SEQUENCE_MAX,
        ..superblock
    };
    sim.device.poke(0, &too_high.encode()[..]);
    let empty = sim.try_open(|options| options.start_empty = true);
    let words = empty.unwrap_err().to_string();
    assert!(words.contains("superblock sequence"), "{words}");
}

/// A base's sections are compressed, so its size does not bound the decoded size.
#[test]
fn a_base_of_more_entries_than_there_can_be_is_not_read() {
    let (sim, superblock, _) = closed();
    forge_header(&sim.device, &superblock, &superblock.base_a, |header| {
        header.entries = 1 << 40;
    });
    forge_header(&sim.device, &superblock, &superblock.base_b, |header| {
        header.entries = 1 << 40;
    });
    let store = sim.open();
    let lost = store.recovery().lost_metadata.clone().unwrap();
    assert!(lost.contains("no base has more than"), "{lost}");
    assert!(store.get(&key(1)).unwrap().is_some());
}

/// Metadata was lost, and slot headers verified an entry in a slot that a base header recorded as bad. Both the entry
/// and the slot's place in the list of bad slots stayed: the next base named both, and the opening after a clean close
/// dropped the entry without reporting it.
#[test]
fn an_entry_found_in_a_bad_slot_survives_the_next_clean_restart() {
    let (sim, superblock, slot) = closed();
    for region in [&superblock.base_a, &superblock.base_b] {
        forge_header(&sim.device, &superblock, region, |header| {
            header.bad_slots = vec![slot, slot + 1];
            // The directory disagrees: the base is not usable, its header is.
            header.entries += 1;
        });
    }
    let bad = Geometry::new(&superblock).slot_offset(slot + 1).unwrap();
    sim.device.fail_always(OpKind::Write, bad..bad + 4096, EIO);
    for found in ["by the scan", "after a clean restart"] {
        let store = sim.open();
        assert_eq!(store.stats().index.classes[0].bad, 1, "{found}");
        assert!(store.get(&key(1)).unwrap().is_some(), "{found}");
        store.close().unwrap();
    }
}

/// In this log a slot has a lower generation after a higher one, as a writer that draws its generation before it has
/// the slot leaves. Recovery keeps the higher one, and did not report that a value may be lost.
#[test]
fn a_log_whose_slots_are_out_of_order_is_a_finding() {
    let (sim, superblock, slot) = closed();
    let image = sim.device.live_image();
    let blocks = |sequence| {
        let at = log_block_offset(&superblock.log, sequence) as usize;
        let block = LogBlock::decode(&image[at..], &superblock.identity).ok()?;
        (block.sequence == sequence).then(|| block.position())
    };
    let end = (1..).map_while(blocks).last().unwrap();
    let more = [7_u32];
    for (later, several, named) in [
        (20, &[][..], Some(slot)),
        (22, &[][..], None),
        // Every slot of a record counts.
        (20, &more[..], Some(7)),
    ] {
        let sim = sim.crash();
        let mut encoder = LogEncoder::new(superblock.identity, 1, end);
        let put = |encoder: &mut LogEncoder, key: &[u8], slot, more, counter| {
            let record = Record::Put {
                key,
                slot,
                more,
                generation: Generation::new(1, counter).unwrap(),
                payload_len: 100,
                payload_checksum: 1,
                placement: 0,
                policy: 0,
                expiry: 0,
                metadata: &[],
            };
            encoder.push(&record, end.sequence - 1);
            encoder.seal(end.sequence - 1);
        };
        let first = if several.is_empty() { slot } else { 7 };
        put(&mut encoder, b"first", first, MoreSlots::NONE, 21);
        let second = if several.is_empty() { slot } else { 6 };
        put(
            &mut encoder,
            b"second",
            second,
            MoreSlots::from(several),
            later,
        );
        let sealed = encoder.take_sealed().bytes;
        for offset in superblock.log_block_offsets(end.sequence) {
            sim.device.poke(offset, &sealed);
        }
        let error = sim.try_open(|_| {}).err().map(|error| error.to_string());
        assert_eq!(
            error
                .as_ref()
                .is_some_and(|error| error.contains("out of order")),
            named.is_some(),
            "a debug build does not open it: {error:?}"
        );
        if !several.is_empty() {
            continue; // Features that this program does not read yet are not audited either.
        }
        let report = sim.audit();
        let found = report
            .findings
            .iter()
            .find(|found| found.wrong.contains("drew a generation"));
        assert_eq!(found.is_some(), named.is_some(), "{report:#?}");
        if let (Some(found), Some(slot)) = (found, named) {
            let block = end.sequence + 1;
            assert_eq!(found.structure, format!("log block {block}"));
            for words in [
                format!(
                    "slot {slot} has generation 1.21 in log block {}",
                    end.sequence
                ),
                format!("generation 1.20 after it in log block {block}"),
            ] {
                assert!(found.wrong.contains(&words), "{found:?}");
            }
        }
    }
}
