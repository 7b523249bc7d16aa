//! One valid, constant value of every structure.

use crate::*;

mod longest;

pub(crate) use longest::{longest, longest_continuations, longest_entry, longest_record};

pub(crate) const ID: Identity = Identity {
    uuid: StoreUuid([0x52, 0x42, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    epoch: 0x0102_0304_0506_0708,
};

/// A store with two classes of 64 KiB and 1 MiB.
pub(crate) fn superblock() -> Superblock {
    let class = |slot_bytes, slots| ClassRequest {
        slot_bytes,
        share: Share::Slots(slots),
    };
    let classes = vec![class(64 << 10, 40_000), class(1 << 20, 1000)];
    let device_bytes = device_bytes_for(&classes, 512, 32, None).unwrap();
    let request = LayoutRequest {
        device_bytes,
        classes,
        key_len_max: 512,
        metadata_len_max: 32,
        log_bytes: None,
    };
    plan(&request, ID).unwrap()
}

/// A superblock with literal numbers, independent of planning: member 2 of 5, the larger class in
/// two runs.
pub(crate) fn superblock_of_three_runs() -> Superblock {
    const MIB: u64 = 1 << 20;
    let run = |class, first_byte, stride, count| Run {
        class,
        first_byte,
        stride,
        count,
    };
    Superblock {
        sequence: 9,
        identity: ID,
        set_uuid: StoreUuid([0xee; 16]),
        member_index: 2,
        member_count: 5,
        key_len_max: 512,
        metadata_len_max: 32,
        device_bytes: 200 * MIB,
        base_a: Region {
            offset: 2 * MIB,
            bytes: 3 * MIB,
        },
        base_b: Region {
            offset: 5 * MIB,
            bytes: 3 * MIB,
        },
        policy: Region {
            offset: 8 * MIB,
            bytes: MIB,
        },
        log: Region {
            offset: 9 * MIB,
            bytes: MIB,
        },
        log_2: Region {
            offset: 110 * MIB,
            bytes: MIB,
        },
        formatted_at: 1_767_225_600,
        features: Features {
            compatible: 1 << 40,
            read_only_compatible: 3,
            incompatible: 1 << 63,
        },
        label: core::array::from_fn(|i| i as u8 ^ 0x3c),
        runs: vec![
            run(1, 10 * MIB, MIB + 4096, 20),
            run(0, 40 * MIB, 68 << 10, 1000),
            run(1, 120 * MIB, MIB + 4096, 30),
        ],
    }
}

pub(crate) fn incarnation() -> Incarnation {
    Incarnation {
        identity: ID,
        number: 0x00ab_cdef & Generation::INCARNATION_MAX,
        nonce: [0x5a; 16],
    }
}

pub(crate) fn slot_header() -> SlotHeader {
    let key: Box<[u8]> = (*b"model/layer-17/block-00042").into();
    SlotHeader {
        generation: Generation::new(7, 123_456).unwrap(),
        slot: 4711,
        more: Box::default(),
        key_hash: key_hash(&ID.uuid, &key),
        payload_len: 65_000,
        payload_checksum: 0xdead_beef,
        placement: 3,
        policy: 0x1234,
        expiry: 86_400,
        key,
        metadata: (*b"bf16[2,16,128]").into(),
    }
}

/// The third of four slots of a value.
pub(crate) fn policy_state() -> PolicyState {
    PolicyState {
        sequence: 0x0102_0304_0506_0708,
        budget: (0..40).collect(),
        policy: (100..220).collect(),
    }
}

pub(crate) fn continuation() -> Continuation {
    Continuation {
        generation: Generation::new(7, 123_456).unwrap(),
        slot: 40_123,
        first_slot: 4711,
        number: 2,
        more_slots: 3,
    }
}

/// Every kind of record.
pub(crate) fn records() -> [Record<'static>; 5] {
    [
        Record::Put {
            key: b"key of a put",
            slot: 12,
            more: MoreSlots::NONE,
            generation: Generation::new(7, 1).unwrap(),
            payload_len: 4096,
            payload_checksum: 0x0bad_cafe,
            placement: 1,
            policy: 0x0201,
            expiry: 77,
            metadata: b"meta",
        },
        Record::Put {
            key: b"key of a large put",
            slot: 40_012,
            more: MoreSlots::from(&[40_900, 40_001][..]),
            generation: Generation::new(7, 3).unwrap(),
            payload_len: 3 << 20,
            payload_checksum: 0x0bad_cafe,
            placement: 0,
            policy: 0,
            expiry: 0,
            metadata: b"",
        },
        Record::Remove {
            key: b"key of a remove",
            generation: Generation::new(7, 2).unwrap(),
        },
        Record::BadSlot { slot: 99 },
        Record::Close,
    ]
}

/// A block with every kind of record.
pub(crate) fn log_block() -> Vec<u8> {
    let mut encoder = LogEncoder::new(
        ID,
        7,
        LogPosition {
            sequence: 1000,
            anchor: 0x1234_5678,
        },
    );
    for record in &records() {
        encoder.push(record, 0);
    }
    encoder.seal(998);
    encoder.take_sealed().bytes
}

/// `SplitMix64` (Steele, Lea and Flood 2014): a portable stream of numbers.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A base entry with owned bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnedEntry {
    pub(crate) key: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
    pub(crate) more: Vec<u32>,
    pub(crate) entry: BaseEntry<'static>,
}

impl OwnedEntry {
    pub(crate) fn of(e: BaseEntry<'_>) -> OwnedEntry {
        OwnedEntry {
            key: e.key.to_vec(),
            metadata: e.metadata.to_vec(),
            more: e.more.iter().collect(),
            entry: BaseEntry {
                key: &[],
                metadata: &[],
                more: MoreSlots::NONE,
                ..e
            },
        }
    }

    pub(crate) fn borrowed(&self) -> BaseEntry<'_> {
        BaseEntry {
            key: &self.key,
            metadata: &self.metadata,
            more: MoreSlots::from(&*self.more),
            ..self.entry
        }
    }
}

/// `count` entries as in a working store: random keys of 32 bytes, random slots of `slots`, random
/// checksums, puts of one incarnation, values of full slots.
pub(crate) fn entries(count: usize, slots: u32, seed: u64) -> Vec<OwnedEntry> {
    let mut numbers = Numbers(seed);
    let mut entry = |_| {
        let key: Vec<u8> = (0..4).flat_map(|_| numbers.next().to_le_bytes()).collect();
        let entry = BaseEntry {
            key: &[],
            metadata: &[],
            key_hash: key_hash(&ID.uuid, &key),
            slot: (numbers.next() % u64::from(slots)) as u32,
            more: MoreSlots::NONE,
            generation: Generation::new(3, numbers.next() % (4 * count as u64)).unwrap(),
            payload_len: 65_536,
            payload_checksum: numbers.next() >> 32,
            placement: 0,
            policy: 0,
            expiry: 0,
            recency: (numbers.next() % count as u64) as u32,
        };
        OwnedEntry {
            key,
            metadata: Vec::new(),
            more: Vec::new(),
            entry,
        }
    };
    (0..count).map(&mut entry).collect()
}

pub(crate) const LIMITS: KeyLimits = KeyLimits {
    key_len_max: 512,
    metadata_len_max: 32,
};

/// A whole base as bytes.
pub(crate) struct SampleBase {
    pub(crate) header: BaseHeader,
    pub(crate) directory: Vec<DirectoryEntry>,
    pub(crate) directory_bytes: Vec<u8>,
    pub(crate) sections: Vec<Vec<u8>>,
    pub(crate) region_bytes: u64,
}

/// Sorts the entries by hash range, the order in a base.
pub(crate) fn by_range(mut entries: Vec<OwnedEntry>) -> Vec<OwnedEntry> {
    entries.sort_by_key(|e| section_range(e.entry.key_hash));
    entries
}

/// Packs `entries` into as many sections as they need, range by range.
pub(crate) fn base(entries: &[OwnedEntry], compression: Compression) -> SampleBase {
    let position = LogPosition {
        sequence: 50,
        anchor: 0xaabb,
    };
    let (mut directory, mut sections) = (Vec::new(), Vec::new());
    let mut offset = FORMAT_BLOCK as u64;
    let ordered = by_range(entries.to_vec());
    let mut left = &ordered[..];
    while let Some(first) = left.first() {
        let range = section_range(first.entry.key_hash);
        let mut builder = SectionBuilder::new(range, position);
        let taken = left
            .iter()
            .take_while(|e| section_range(e.entry.key_hash) == range)
            .take_while(|e| builder.push(&e.borrowed()))
            .count();
        left = &left[taken..];
        let number = sections.len() as u32;
        let (mut entry, bytes) = builder.finish(&ID, 4, number, compression);
        entry.offset = offset;
        offset += bytes.len() as u64;
        directory.push(entry);
        sections.push(bytes);
    }
    let encoded = encode_directory(&directory, &ID, 4);
    let header = BaseHeader {
        identity: ID,
        base_sequence: 4,
        incarnation: 3,
        position,
        generation_floor: Generation::new(3, 1 << 30).unwrap(),
        recency_now: 1 << 20,
        entries: entries.len() as u64,
        sections: sections.len() as u32,
        directory_offset: offset,
        directory_len: encoded.len,
        directory_checksum: encoded.checksum,
        lifetime: LifetimeCounters {
            slot_bytes: 1 << 50,
            log_bytes: 1 << 40,
            base_bytes: 1 << 41,
            discarded_bytes: 1 << 42,
            puts: 1_000_001,
            removes: 1002,
            evictions: 900_003,
            openings: 4,
            errors: 1 << 33,
        },
        bad_blocks: vec![520, 100_000],
        bad_slots: vec![5, 77, 40_999],
    };
    let region_bytes = offset + encoded.bytes.len() as u64 + FORMAT_BLOCK as u64;
    SampleBase {
        header,
        directory,
        directory_bytes: encoded.bytes,
        sections,
        region_bytes,
    }
}

/// A few entries of differing lengths, with metadata, some of several slots, all of the first hash
/// range.
pub(crate) fn varied_entries() -> Vec<OwnedEntry> {
    let mut numbers = Numbers(1);
    let mut entries = entries(100, 41_000, 42);
    for (i, e) in entries.iter_mut().enumerate() {
        e.key.truncate(1 + i % 32);
        while section_range(key_hash(&ID.uuid, &e.key)) != 0 {
            e.key.fill_with(|| numbers.next() as u8);
        }
        e.metadata = vec![i as u8; i % 33];
        e.entry.key_hash = key_hash(&ID.uuid, &e.key);
        e.entry.payload_len = 1 + i as u32;
        e.entry.placement = i as u16 % 3;
        e.entry.policy = (i as u16 % 4) << 8;
        e.entry.expiry = (i as u32 % 2) * 100_000;
        if i % 10 == 9 {
            let slot = 40_000 + i as u32;
            e.entry.slot = slot;
            e.more = (1..=i as u32 / 10).map(|n| slot + 100 * n).collect();
            e.entry.payload_len = (e.more.len() << 20) as u32 + 1 + i as u32;
        }
    }
    entries
}
