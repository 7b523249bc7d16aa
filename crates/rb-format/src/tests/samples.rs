//! One sound value of every structure, always the same.

use crate::*;

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

/// A superblock in plain numbers, so that it stays the same whatever planning does: member 2 of
/// 5, the larger class in two runs.
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
        log: Region {
            offset: 8 * MIB,
            bytes: MIB,
        },
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
        key_hash: key_hash(&ID.uuid, &key),
        payload_len: 65_000,
        payload_checksum: 0xdead_beef,
        placement: 3,
        key,
        metadata: (*b"bf16[2,16,128]").into(),
    }
}

/// Every kind of record.
pub(crate) fn records() -> [Record<'static>; 4] {
    [
        Record::Put {
            key: b"key of a put",
            slot: 12,
            generation: Generation::new(7, 1).unwrap(),
            payload_len: 4096,
            payload_checksum: 0x0bad_cafe,
            placement: 1,
            metadata: b"meta",
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

/// SplitMix64 (Steele, Lea and Flood 2014): a stream of numbers that is the same everywhere.
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
    pub(crate) entry: BaseEntry<'static>,
}

impl OwnedEntry {
    pub(crate) fn of(e: BaseEntry<'_>) -> OwnedEntry {
        OwnedEntry {
            key: e.key.to_vec(),
            metadata: e.metadata.to_vec(),
            entry: BaseEntry {
                key: &[],
                metadata: &[],
                ..e
            },
        }
    }

    pub(crate) fn borrowed(&self) -> BaseEntry<'_> {
        BaseEntry {
            key: &self.key,
            metadata: &self.metadata,
            ..self.entry
        }
    }
}

/// `count` entries as a working store has them: random keys of 32 bytes, random slots of
/// `slots`, random checksums, puts of one opening, values of full slots.
pub(crate) fn entries(count: usize, slots: u32, seed: u64) -> Vec<OwnedEntry> {
    let mut numbers = Numbers(seed);
    let mut entry = |_| {
        let key: Vec<u8> = (0..4).flat_map(|_| numbers.next().to_le_bytes()).collect();
        let entry = BaseEntry {
            key: &[],
            metadata: &[],
            key_hash: key_hash(&ID.uuid, &key),
            slot: (numbers.next() % u64::from(slots)) as u32,
            generation: Generation::new(3, numbers.next() % (4 * count as u64)).unwrap(),
            payload_len: 65_536,
            payload_checksum: numbers.next() >> 32,
            placement: 0,
            recency: (numbers.next() % count as u64) as u32,
        };
        OwnedEntry {
            key,
            metadata: Vec::new(),
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

/// Puts `entries` into as many sections as they need.
pub(crate) fn base(entries: &[OwnedEntry], compression: Compression) -> SampleBase {
    let position = LogPosition {
        sequence: 50,
        anchor: 0xaabb,
    };
    let (mut directory, mut sections) = (Vec::new(), Vec::new());
    let mut offset = FORMAT_BLOCK as u64;
    let mut left = entries;
    while !left.is_empty() {
        let mut builder = SectionBuilder::new(0..=u64::MAX, position);
        let taken = left
            .iter()
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
        bad_slots: vec![5, 77, 40_999],
    };
    let region_bytes = offset + encoded.bytes.len() as u64;
    SampleBase {
        header,
        directory,
        directory_bytes: encoded.bytes,
        sections,
        region_bytes,
    }
}

/// A few entries of differing lengths, with metadata.
pub(crate) fn varied_entries() -> Vec<OwnedEntry> {
    let mut entries = entries(100, 41_000, 42);
    for (i, e) in entries.iter_mut().enumerate() {
        e.key.truncate(1 + i % 32);
        e.metadata = vec![i as u8; i % 33];
        e.entry.key_hash = key_hash(&ID.uuid, &e.key);
        e.entry.payload_len = 1 + i as u32;
        e.entry.placement = i as u16 % 3;
    }
    entries
}
