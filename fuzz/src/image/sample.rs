//! Sound devices to start from: made once, always the same.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rb_core::policy::{Learned, PolicyFactory};
use rb_core::{
    Background, FormatOptions, OnLostMetadata, SeededRandom, Store, StoreOptions, Superblock,
    Validate, format,
};
use rb_format::{
    BaseHeader, Geometry, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, LogBlock, LogPosition,
    SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET, log_block_offset,
};
use rb_testkit::{MemDevice, MemEngine, values};

use super::device::Image;
use crate::samples::{KEY_LEN_MAX, LOG_BYTES, METADATA_LEN_MAX, classes, device_bytes};

/// Number of keys that the samples and the operations use.
pub(super) const KEYS: u8 = 12;
/// Bytes of a slot of the larger class.
pub(super) const LARGER_SLOT: u32 = 8192;
/// Number of versions of a key's value; the samples use the first, operations the others.
pub(super) const VERSIONS: u8 = 8;

/// A sound device, and the locations of its structures.
pub(super) struct Sample {
    pub(super) image: Image,
    pub(super) superblock: Superblock,
    pub(super) geometry: Geometry,
    /// Offsets of one-block structures: superblocks, incarnations, base headers, log, slot headers.
    pub(super) blocks: Vec<u64>,
    /// End of the log's chain.
    pub(super) log_end: LogPosition,
}

/// Returns the samples: a freshly formatted device, one that was closed cleanly, one that crashed, and one that was
/// closed with a policy that had learned.
pub(super) fn samples() -> &'static [Sample; 4] {
    static SAMPLES: OnceLock<[Sample; 4]> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let lru = || None;
        [
            formatted(),
            used(true, lru),
            used(false, lru),
            used(true, || Some(learned())),
        ]
        .map(|device| Sample::of(&device))
    })
}

/// Returns the policy that saves what it has learned.
pub(super) fn learned() -> Arc<dyn PolicyFactory> {
    Arc::new(Learned::default())
}

pub(super) fn key(number: u8) -> Vec<u8> {
    format!("key-{number:02}").into_bytes()
}

/// Returns the value of a version of a key. Its length and its bytes identify both. Some versions of every third key fill
/// two slots of the larger class, or three.
pub(super) fn value(number: u8, version: u8) -> Vec<u8> {
    let larger = LARGER_SLOT as usize;
    let mut len = 1 + (usize::from(number) * 1777 + usize::from(version) * 2903) % larger;
    if number % 3 == 1 {
        len += larger * usize::from(version % 3);
    }
    values::bytes(u64::from(number) << 8 | u64::from(version), len)
}

pub(super) fn options() -> StoreOptions {
    StoreOptions {
        background: Background::Manual,
        buffer_bytes: Some(1 << 20),
        queue_depth: 16,
        queues_max: 1,
        shards: Some(4),
        busy_wait: Duration::from_millis(1),
        validate: Validate::Off,
        on_lost_metadata: OnLostMetadata::Scan,
        random: Arc::new(SeededRandom::new(1)),
        ..StoreOptions::default()
    }
}

pub(super) fn open(
    device: &Arc<MemDevice>,
    options: StoreOptions,
) -> Result<Store, rb_core::OpenError> {
    Store::open(Arc::new(MemEngine::new(Arc::clone(device))), options)
}

fn formatted() -> Arc<MemDevice> {
    let device = MemDevice::new(device_bytes());
    let options = FormatOptions {
        key_len_max: KEY_LEN_MAX,
        metadata_len_max: METADATA_LEN_MAX,
        log_bytes: Some(LOG_BYTES),
        formatted_at: 0,
        random: Arc::new(SeededRandom::new(2)),
        ..FormatOptions::new(Arc::new(MemEngine::new(Arc::clone(&device))), classes())
    };
    format(&options).expect("formatting memory works");
    device
}

fn used(closed: bool, policy: fn() -> Option<Arc<dyn PolicyFactory>>) -> Arc<MemDevice> {
    let device = formatted();
    let options = StoreOptions {
        policy: policy(),
        ..options()
    };
    let store = open(&device, options).expect("a new store opens");
    let put = |number, version| {
        store
            .put(&key(number), &value(number, version))
            .expect("memory takes a put");
        store.sync().expect("memory takes a sync");
    };
    let checkpoint = || store.checkpoint().expect("memory takes a checkpoint");
    (0..6).for_each(|number| put(number, 0));
    for number in 0..KEYS {
        store.get(&key(number)).expect("memory takes a get");
    }
    checkpoint();
    (3..8).for_each(|number| put(number, 1));
    checkpoint();
    store.remove(&key(2)).expect("memory takes a remove");
    (7..9).for_each(|number| put(number, 2));
    if closed {
        store.close().expect("memory takes a close");
    }
    // Dropping a store makes its state durable; the copy has the state before the drop, as a crash
    // would.
    device.crash()
}

impl Sample {
    fn of(device: &Arc<MemDevice>) -> Sample {
        let image = Image::of(&device.live_image());
        let superblock =
            Superblock::decode(&image.block(SUPERBLOCK_A_OFFSET)).expect("it is sound");
        let geometry = Geometry::new(&superblock);
        let log_end = log_end(&image, &superblock);
        let log = (1..=log_end.sequence).map(|n| log_block_offset(&superblock.log, n));
        let slots = (0..geometry.slots()).filter_map(|slot| geometry.slot_offset(slot));
        let mut blocks = vec![
            SUPERBLOCK_A_OFFSET,
            SUPERBLOCK_B_OFFSET,
            INCARNATION_A_OFFSET,
            INCARNATION_B_OFFSET,
            superblock.base_a.offset,
            superblock.base_b.offset,
        ];
        blocks.extend(log.chain(slots));
        Sample {
            image,
            superblock,
            geometry,
            blocks,
            log_end,
        }
    }
}

/// Follows the chain from the newest base to its end.
fn log_end(image: &Image, superblock: &Superblock) -> LogPosition {
    let bases = [&superblock.base_a, &superblock.base_b];
    let positions = bases.iter().filter_map(|base| {
        let header = BaseHeader::decode(&image.block(base.offset), &superblock.identity);
        Some(header.ok()?.position)
    });
    let mut end = positions
        .max_by_key(|at| at.sequence)
        .unwrap_or(LogPosition::FIRST);
    loop {
        let bytes = image.block(log_block_offset(&superblock.log, end.sequence));
        match LogBlock::decode(&bytes, &superblock.identity) {
            Ok(block) if block.continues(&end) => end = block.position(),
            _ => return end,
        }
    }
}
