//! One sound value of every structure, always the same, for the fuzzer to change.

use rb_format::{
    BaseEntry, BaseHeader, ClassRequest, Compression, Continuation, DirectoryEntry, FORMAT_BLOCK,
    Generation, Identity, Incarnation, LayoutRequest, LifetimeCounters, LogEncoder, LogPosition,
    MoreSlots, Record, SectionBuilder, Share, SlotHeader, StoreUuid, Superblock, device_bytes_for,
    encode_directory, key_hash, plan, section_range,
};

pub(crate) const ID: Identity = Identity {
    uuid: StoreUuid(*b"a store to break"),
    epoch: 3,
};

pub(crate) const KEY_LEN_MAX: u32 = 64;
pub(crate) const METADATA_LEN_MAX: u32 = 16;

/// Two classes, so that there are several runs and classes.
pub(crate) fn classes() -> Vec<ClassRequest> {
    let class = |slot_bytes, slots| ClassRequest {
        slot_bytes,
        share: Share::Slots(slots),
    };
    vec![class(4096, 8), class(8192, 4)]
}

/// The shortest possible log.
pub(crate) const LOG_BYTES: u64 = 64 * FORMAT_BLOCK as u64;

pub(crate) fn device_bytes() -> u64 {
    device_bytes_for(&classes(), KEY_LEN_MAX, METADATA_LEN_MAX, Some(LOG_BYTES))
        .expect("the sample classes fit a device")
}

pub(crate) fn superblock() -> Superblock {
    let request = LayoutRequest {
        device_bytes: device_bytes(),
        classes: classes(),
        key_len_max: KEY_LEN_MAX,
        metadata_len_max: METADATA_LEN_MAX,
        log_bytes: Some(LOG_BYTES),
    };
    plan(&request, ID).expect("the sample layout is sound")
}

pub(crate) fn incarnation() -> Incarnation {
    Incarnation {
        identity: ID,
        number: 6,
        nonce: [7; 16],
    }
}

pub(crate) fn slot_header() -> Vec<u8> {
    let key: Box<[u8]> = (*b"key of a slot").into();
    let header = SlotHeader {
        generation: Generation(5 << Generation::COUNTER_BITS | 9),
        slot: 8,
        more: [11, 9].into(),
        key_hash: key_hash(&ID.uuid, &key),
        payload_len: 20_000,
        payload_checksum: 0xdead_beef,
        placement: 1,
        policy: 2,
        expiry: 86_400,
        key,
        metadata: (*b"metadata").into(),
    };
    let mut bytes = vec![0; FORMAT_BLOCK];
    header.encode_into(&ID, &mut bytes);
    bytes
}

/// Header of the second further slot of that value.
pub(crate) fn continuation() -> Vec<u8> {
    let header = Continuation {
        generation: Generation(5 << Generation::COUNTER_BITS | 9),
        slot: 9,
        first_slot: 8,
        number: 2,
        more_slots: 2,
    };
    let mut bytes = vec![0; FORMAT_BLOCK];
    header.encode_into(&ID, &mut bytes);
    bytes
}

/// Returns a block with every kind of record.
pub(crate) fn log_block() -> Vec<u8> {
    let start = LogPosition {
        sequence: 100,
        anchor: 0x1234,
    };
    let generation = Generation(5 << Generation::COUNTER_BITS | 9);
    let mut encoder = LogEncoder::new(ID, 5, start);
    let records = [
        Record::Put {
            key: b"a key",
            slot: 3,
            more: MoreSlots::NONE,
            generation,
            payload_len: 100,
            payload_checksum: 77,
            placement: 0,
            policy: 0,
            expiry: 0,
            metadata: b"m",
        },
        Record::Put {
            key: b"a key of a large value",
            slot: 8,
            more: MoreSlots::from(&[11, 9][..]),
            generation,
            payload_len: 20_000,
            payload_checksum: 78,
            placement: 1,
            policy: 2,
            expiry: 86_400,
            metadata: b"",
        },
        Record::Remove {
            key: b"another key",
            generation,
        },
        Record::BadSlot { slot: 2 },
        Record::Close,
    ];
    for record in &records {
        encoder.push(record, 0);
    }
    encoder.seal(98);
    encoder.take_sealed().bytes
}

/// Returns keys whose hashes are in this range.
pub(crate) fn keys_of(range: usize) -> impl Iterator<Item = [u8; 3]> {
    let keys = (0..=u16::MAX).map(|number| {
        let [low, high] = number.to_le_bytes();
        [b'k', high, low]
    });
    keys.filter(move |key| section_range(key_hash(&ID.uuid, key)) == range)
}

/// A base of two sections.
pub(crate) struct Base {
    pub(crate) header: BaseHeader,
    pub(crate) directory: Vec<DirectoryEntry>,
    pub(crate) directory_bytes: Vec<u8>,
    pub(crate) sections: Vec<Vec<u8>>,
    pub(crate) region_bytes: u64,
}

const BASE_SEQUENCE: u64 = 9;

pub(crate) fn base() -> Base {
    let position = LogPosition {
        sequence: 100,
        anchor: 0x1234,
    };
    let (mut directory, mut sections) = (Vec::new(), Vec::new());
    let mut offset = FORMAT_BLOCK as u64;
    for section in 0..2_u32 {
        let range = section as usize;
        let mut builder = SectionBuilder::new(range, position);
        for (number, key) in (0..6_u8).zip(keys_of(range)) {
            // The last entries of the second section are a value of three slots and a value of one
            // slot.
            let slot = section * 6 + u32::from(number);
            let more: &[u32] = match slot {
                10 => &[8, 9],
                _ => &[],
            };
            let entry = BaseEntry {
                key: &key,
                metadata: &key[..usize::from(number % 3)],
                key_hash: key_hash(&ID.uuid, &key),
                slot,
                more: MoreSlots::from(more),
                generation: Generation(u64::from(number) + 1),
                payload_len: 100 + 8192 * more.len() as u32,
                payload_checksum: 5,
                placement: 0,
                policy: number.into(),
                expiry: 1000,
                recency: number.into(),
            };
            builder.push(&entry);
        }
        let (mut entry, bytes) = builder.finish(&ID, BASE_SEQUENCE, section, Compression::Plain);
        entry.offset = offset;
        offset += bytes.len() as u64;
        directory.push(entry);
        sections.push(bytes);
    }
    let encoded = encode_directory(&directory, &ID, BASE_SEQUENCE);
    let header = BaseHeader {
        identity: ID,
        base_sequence: BASE_SEQUENCE,
        incarnation: 5,
        position,
        generation_floor: Generation(5 << Generation::COUNTER_BITS),
        recency_now: 10,
        entries: 12,
        sections: 2,
        directory_offset: offset,
        directory_len: encoded.len,
        directory_checksum: encoded.checksum,
        lifetime: LifetimeCounters {
            puts: 12,
            openings: 5,
            ..LifetimeCounters::default()
        },
        bad_blocks: vec![513, 700],
        bad_slots: vec![1, 11],
    };
    let region_bytes = offset + encoded.bytes.len() as u64 + FORMAT_BLOCK as u64;
    Base {
        header,
        directory,
        directory_bytes: encoded.bytes,
        sections,
        region_bytes,
    }
}
