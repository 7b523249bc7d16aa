//! Encoding followed by decoding returns the same values.

use proptest::prelude::*;

use super::samples::{self, ID};
use crate::*;

fn key() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![1..80_usize, Just(1), Just(KEY_LEN_MAX)];
    len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
}

fn metadata() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![Just(0), 1..40_usize, Just(METADATA_LEN_MAX)];
    len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
}

/// The first slot and further ones, each once.
fn slots() -> impl Strategy<Value = (u32, Vec<u32>)> {
    let more = prop_oneof![4 => Just(0), 2 => 1..9_usize, 1 => Just(VALUE_SLOTS_MAX - 1)];
    (any::<u32>(), 1..1_000_000_u32, more).prop_map(|(first, step, more)| {
        // At most 255 steps of less than 2^20, so no slot repeats.
        let slots = (1..=more as u32).map(|n| first.wrapping_add(n * step));
        (first, slots.collect())
    })
}

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, Vec<u8>, (u32, Vec<u32>), u64, u32, u32, [u16; 4]),
    Remove(Vec<u8>, u64),
    BadSlot(u32),
    Close,
}

impl Op {
    fn record(&self) -> Record<'_> {
        match self {
            Op::Put(key, metadata, (slot, more), generation, len, checksum, small) => Record::Put {
                key,
                slot: *slot,
                more: MoreSlots::from(&more[..]),
                generation: Generation(*generation),
                payload_len: *len,
                payload_checksum: (*checksum).into(),
                placement: small[0],
                policy: small[1],
                expiry: u32::from(small[2]) << 16 | u32::from(small[3]),
                metadata,
            },
            Op::Remove(key, generation) => Record::Remove {
                key,
                generation: Generation(*generation),
            },
            Op::BadSlot(slot) => Record::BadSlot { slot: *slot },
            Op::Close => Record::Close,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let len = 1..=VALUE_LEN_MAX as u32;
    prop_oneof![
        4 => (key(), metadata(), slots(), any::<u64>(), len, any::<u32>(), any::<[u16; 4]>())
            .prop_map(|(k, m, s, g, l, c, p)| Op::Put(k, m, s, g, l, c, p)),
        2 => (key(), any::<u64>()).prop_map(|(k, g)| Op::Remove(k, g)),
        1 => any::<u32>().prop_map(Op::BadSlot),
        1 => Just(Op::Close),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generations(incarnation in any::<u32>(), counter in any::<u64>()) {
        let fits = incarnation <= Generation::INCARNATION_MAX && counter <= Generation::COUNTER_MAX;
        let made = Generation::new(incarnation, counter);
        prop_assert_eq!(made.is_some(), fits);
        if let Some(generation) = made {
            prop_assert_eq!(generation.incarnation(), incarnation);
            prop_assert_eq!(generation.counter(), counter);
        }
    }

    #[test]
    fn incarnations(number in 0..=Generation::INCARNATION_MAX, nonce in any::<[u8; 16]>()) {
        let block = Incarnation { identity: ID, number, nonce };
        prop_assert_eq!(Incarnation::decode(&block.encode()[..], &ID), Ok(block));
        let offset = if number % 2 == 0 { INCARNATION_A_OFFSET } else { INCARNATION_B_OFFSET };
        prop_assert_eq!(block.offset(), offset);
    }

    #[test]
    fn slot_headers(
        key in key(), metadata in metadata(), slots in slots(), generation: u64,
        payload_len in 1..=VALUE_LEN_MAX as u32, checksum: u32,
        placement: u16, policy: u16,
        expiry: u32,
    ) {
        let (slot, more) = slots;
        let header = SlotHeader {
            generation: Generation(generation),
            slot,
            more: more.into(),
            key_hash: key_hash(&ID.uuid, &key),
            payload_len,
            payload_checksum: checksum.into(),
            placement,
            policy,
            expiry,
            key: key.into(),
            metadata: metadata.into(),
        };
        // Old bytes in the buffer must not show through, and the bytes after the block are not
        // touched.
        let mut bytes = vec![0xff; FORMAT_BLOCK + 3];
        header.encode_into(&ID, &mut bytes);
        prop_assert_eq!(&bytes[FORMAT_BLOCK..], &[0xff; 3]);
        prop_assert_eq!(SlotHeader::decode(&bytes, &ID), Ok(header));
    }

    #[test]
    fn continuations(
        slot: u32, step in 1..u32::MAX, generation: u64, more_slots in 1..=u8::MAX,
        number: u8,
    ) {
        let header = Continuation {
            generation: Generation(generation),
            slot,
            first_slot: slot.wrapping_add(step),
            number: number % more_slots + 1,
            more_slots,
        };
        let mut bytes = vec![0xff; FORMAT_BLOCK];
        header.encode_into(&ID, &mut bytes);
        prop_assert_eq!(Continuation::decode(&bytes, &ID), Ok(header));
    }

    /// The number of slots for a value passes `check_slots`; one more or fewer is rejected.
    #[test]
    fn slots_of_values(payload_len in 1..=VALUE_LEN_MAX) {
        let geometry = Geometry::new(&samples::superblock());
        let Some((class, count)) = geometry.slots_for(payload_len) else {
            prop_assert!(payload_len > 256 << 20);
            return Ok(());
        };
        let first = geometry.class_slots(class)[0].start;
        let more: Vec<u32> = (1..count as u32).map(|n| first + n).collect();
        let check = |more: &[u32]| {
            geometry.check_slots("value", first, MoreSlots::from(more), payload_len as u32)
        };
        prop_assert_eq!(check(&more), Ok(()));
        if let Some(fewer) = count.checked_sub(2) {
            prop_assert!(check(&more[..fewer]).is_err());
        }
        let one_more = [more, vec![first + count as u32]].concat();
        prop_assert!(check(&one_more).is_err());
    }

    /// All records come back in order, whenever blocks are sealed, and the blocks form a chain.
    #[test]
    fn logs(
        ops in prop::collection::vec((op(), prop::bool::weighted(0.05)), 1..120),
        first in 1..1_000_000_u64, anchor: u64,
    ) {
        let start = LogPosition { sequence: first, anchor };
        let mut encoder = LogEncoder::new(ID, 5, start);
        let mut bytes = Vec::new();
        for (op, seal) in &ops {
            let position = encoder.position();
            encoder.push(&op.record(), first - 1);
            prop_assert!(encoder.next_sequence() >= position.sequence);
            if *seal {
                encoder.seal(first - 1);
                let sealed = encoder.take_sealed();
                prop_assert_eq!(sealed.first_sequence, first + (bytes.len() / FORMAT_BLOCK) as u64);
                bytes.extend(sealed.bytes);
            }
        }
        encoder.seal(first - 1);
        bytes.extend(encoder.take_sealed().bytes);
        let mut position = start;
        let mut found = Vec::new();
        for block in bytes.chunks(FORMAT_BLOCK) {
            let block = LogBlock::decode(block, &ID).unwrap();
            prop_assert!(block.continues(&position));
            prop_assert_eq!((block.incarnation, block.durable), (5, first - 1));
            position = block.position();
            found.extend(block.records());
        }
        prop_assert_eq!(position, encoder.position());
        let pushed: Vec<Record<'_>> = ops.iter().map(|(op, _)| op.record()).collect();
        prop_assert_eq!(found, pushed);
    }

    #[test]
    fn base_headers(
        (sequence, anchor, floor, entries) in (1..=SEQUENCE_MAX, any::<u64>(), any::<u64>(), any::<u64>()),
        (recency_now, sections, blocks) in (any::<u32>(), any::<u32>(), 1..1_000_000_u64),
        bad_slots in prop::collection::btree_set(any::<u32>(), 0..40),
        bad_blocks in prop::collection::btree_set(0..=i64::MAX as u64 / 4096, 0..=BAD_BLOCKS_MAX),
        lifetime: [u64; 9],
    ) {
        let [slot_bytes, log_bytes, base_bytes, discarded_bytes, puts, removes, evictions, openings, errors] = lifetime;
        let lifetime = LifetimeCounters {
            slot_bytes, log_bytes, base_bytes, discarded_bytes, puts, removes, evictions, openings,
            errors,
        };
        let header = BaseHeader {
            identity: ID,
            base_sequence: sequence,
            incarnation: 1,
            position: LogPosition { sequence, anchor },
            generation_floor: Generation(floor),
            recency_now,
            entries,
            sections,
            directory_offset: blocks * FORMAT_BLOCK as u64,
            directory_len: entries,
            directory_checksum: anchor,
            lifetime,
            bad_blocks: bad_blocks.into_iter().collect(),
            bad_slots: bad_slots.into_iter().collect(),
        };
        prop_assert_eq!(BaseHeader::decode(&header.encode()[..], &ID), Ok(header));
    }

    #[test]
    fn sections(
        keys in prop::collection::vec((key(), metadata(), any::<u64>(), any::<u32>(), 0..6_u32), 1..60),
        zstd: bool,
    ) {
        let sb = samples::superblock();
        let geometry = Geometry::new(&sb);
        let entries: Vec<_> = keys
            .into_iter()
            .map(|(key, metadata, number, small, more)| {
                // The last slots are those of the largest class.
                let last = geometry.slots() - 1;
                let slot = if more == 0 { small % geometry.slots() } else { last };
                let more: Vec<u32> = (1..=more).map(|n| last - n * 7).collect();
                let entry = BaseEntry {
                    key: &[],
                    metadata: &[],
                    key_hash: key_hash(&ID.uuid, &key),
                    slot,
                    more: MoreSlots::NONE,
                    generation: Generation(1 + number % (3 << Generation::COUNTER_BITS)),
                    payload_len: ((more.len() as u32) << 20) + 1 + small % 65_536,
                    payload_checksum: number >> 32,
                    placement: small as u16,
                    policy: number as u16,
                    expiry: small ^ number as u32,
                    recency: small,
                };
                samples::OwnedEntry { key, metadata, more, entry }
            })
            .collect();
        let compression = if zstd { Compression::Zstd { level: 3 } } else { Compression::Plain };
        let base = samples::base(&entries, compression);
        let limits = KeyLimits { key_len_max: 1024, metadata_len_max: 256 };
        let directory =
            decode_directory(&base.directory_bytes, &base.header, base.region_bytes).unwrap();
        let mut found = Vec::new();
        for (number, (entry, bytes)) in directory.iter().zip(&base.sections).enumerate() {
            let mut each = |e: BaseEntry<'_>| found.push(samples::OwnedEntry::of(e));
            decode_section(bytes, entry, number as u32, &base.header, &geometry, limits, &mut each)
                .unwrap();
        }
        prop_assert_eq!(found, samples::by_range(entries));
    }
}
