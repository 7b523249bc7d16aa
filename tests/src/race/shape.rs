//! Shape and options of a race's store, all drawn from a seed.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rb_core::policy::Learned;
use rb_core::{
    ClassRequest, Durability, EngineKind, FormatOptions, Scrub, Share, StoreOptions, Validate,
};
use rb_format::FORMAT_BLOCK;
use rb_testkit::values::next_number;

/// The number of a key.
pub(super) type Key = u64;

/// Slot sizes that classes are drawn from, in bytes.
const SLOT_BYTES: [u64; 3] = [4096, 8192, 24 << 10];

/// Maximum number of slots of a value.
const VALUE_SLOTS: u64 = 6;

/// Fast enough to read a whole store in a session.
const SCRUBBED_PER_SECOND: NonZeroU64 = NonZeroU64::new(64 << 20).unwrap();

/// Parameters that a caller fixes; the seed decides the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Number of threads; `None`: 4 to 16.
    pub threads: Option<u64>,
    /// True if every session acknowledges only what is durable, and the log is as small as possible.
    pub each_batch: bool,
}

/// Properties of a store that stay the same over its sessions.
#[derive(Clone, Debug)]
pub(super) struct Image {
    /// Bytes and number of the slots of each class.
    pub(super) classes: Vec<(u64, u64)>,
    log_blocks: u64,
    key_bytes: usize,
    /// Number of keys that each belong to one thread.
    pub(super) own: u64,
    /// Number of keys shared by all threads; they come after the others.
    pub(super) shared: u64,
    seed: u64,
}

impl Image {
    pub(super) fn new(seed: u64, fixed: &Fixed) -> Image {
        let mut state = seed;
        let mut random = |below: u64| next_number(&mut state) % below;
        let classes = 1 + random(3) as usize;
        let classes: Vec<(u64, u64)> = SLOT_BYTES[..classes]
            .iter()
            .map(|&bytes| {
                let magnitude = 8 << random(6);
                (bytes, magnitude + random(magnitude))
            })
            .collect();
        let slots: u64 = classes.iter().map(|(_, slots)| slots).sum();
        // From a store with spare slots to one that is far too small.
        let own = (slots * [1, 2, 3, 6][random(4) as usize] / 2).max(32);
        Image {
            classes,
            log_blocks: match fixed.each_batch {
                true => 64,
                false => [64, 64, 128, 256][random(4) as usize],
            },
            key_bytes: [12, 60, 200][random(3) as usize],
            own,
            shared: 4 + random(12),
            seed,
        }
    }

    pub(super) fn keys(&self) -> u64 {
        self.own + self.shared
    }

    pub(super) fn format(&self, path: &Path) -> FormatOptions {
        let classes = self
            .classes
            .iter()
            .map(|&(slot_bytes, slots)| ClassRequest {
                slot_bytes,
                share: Share::Slots(slots),
            });
        FormatOptions {
            key_len_max: 256,
            log_bytes: Some(self.log_blocks * FORMAT_BLOCK as u64),
            sparse: self.seed.is_multiple_of(2),
            consent: true,
            ..FormatOptions::new(path, classes.collect())
        }
    }

    /// Returns the key's bytes.
    pub(super) fn name(&self, key: Key) -> Vec<u8> {
        format!("{key:->width$}", width = self.key_bytes).into_bytes()
    }

    /// Returns the length of a version in bytes. The versions of a key use all classes, and one in eight takes 2 to 6
    /// slots of the largest one.
    pub(super) fn value_len(&self, key: Key, version: u64) -> usize {
        let mut state = key << 32 ^ version;
        let &(largest, _) = self.classes.last().unwrap_or(&(0, 0));
        if next_number(&mut state).is_multiple_of(8) {
            let full = 1 + next_number(&mut state) % (VALUE_SLOTS - 1);
            let last = match next_number(&mut state) % 4 {
                0 => 1,
                1 => largest,
                _ => 1 + next_number(&mut state) % largest,
            };
            return (full * largest + last) as usize;
        }
        let (most, _) = self.classes[next_number(&mut state) as usize % self.classes.len()];
        (24 + next_number(&mut state) % (most - 23)) as usize
    }

    /// Returns the number of slots that a version takes.
    pub(super) fn slots(&self, key: Key, version: u64) -> u64 {
        let &(largest, _) = self.classes.last().unwrap_or(&(1, 0));
        (self.value_len(key, version) as u64).div_ceil(largest)
    }
}

/// Returns the number of a name.
pub(super) fn number(name: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(name).ok()?;
    text.trim_start_matches('-').parse().ok()
}

/// One session of a store, by several threads.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) threads: u64,
    pub(super) each_batch: bool,
    shards: u32,
    discard: bool,
    sync_ms: u64,
    busy_ms: u64,
    queues: usize,
    validates: bool,
    scrubs: bool,
    /// Maximum number of keys of one operation.
    pub(super) batch: u64,
    /// Removes, locks, syncs and checkpoints per hundred operations. The rest are puts and gets.
    pub(super) removes: u64,
    pub(super) locks: u64,
    pub(super) syncs: u64,
    pub(super) checkpoints: u64,
    /// Seed of each thread's operations.
    pub(super) seed: u64,
    /// True with the learned policy, and bytes that may be written in a day.
    learned: bool,
    budget: Option<NonZeroU64>,
}

impl Session {
    pub(super) fn new(seed: u64, fixed: &Fixed) -> Session {
        let mut state = seed;
        let mut random = |below: u64| next_number(&mut state) % below;
        Session {
            threads: fixed.threads.unwrap_or(4 + random(13)),
            each_batch: random(3) == 0 || fixed.each_batch,
            shards: 1 << random(7),
            discard: random(3) == 0,
            sync_ms: [1, 50, 1_000_000][random(3) as usize],
            busy_ms: [1, 5000][random(2) as usize],
            queues: [1, 3, 8][random(3) as usize],
            validates: random(2) == 0,
            scrubs: random(3) == 0,
            batch: [1, 4, 8][random(3) as usize],
            removes: [3, 15, 30][random(3) as usize],
            locks: [0, 2, 10][random(3) as usize],
            syncs: [1, 4, 20][random(3) as usize],
            checkpoints: [0, 1, 3][random(3) as usize],
            seed: random(u64::MAX),
            learned: random(2) == 0,
            budget: [None, None, NonZeroU64::new(4 << 20)][random(3) as usize],
        }
    }

    /// Returns whether puts may be refused.
    pub(super) fn refuses(&self) -> bool {
        self.learned || self.budget.is_some()
    }

    pub(super) fn options(&self, engine: EngineKind) -> StoreOptions {
        StoreOptions {
            engine,
            buffer_bytes: Some(16 << 20),
            queue_depth: 64,
            shards: Some(self.shards),
            durability: match self.each_batch {
                true => Durability::EachBatch,
                false => Durability::Interval,
            },
            sync_interval: Duration::from_millis(self.sync_ms),
            busy_wait: Duration::from_millis(self.busy_ms),
            queues_max: self.queues,
            validate: match self.validates {
                true => Validate::Background,
                false => Validate::Off,
            },
            scrub: self.scrubs.then_some(Scrub {
                bytes_per_second: SCRUBBED_PER_SECOND,
                pass_interval: Duration::from_secs(1),
            }),
            discard_freed: self.discard,
            policy: self.learned.then(|| Arc::new(Learned::default()) as _),
            write_budget_per_day: self.budget,
            ..StoreOptions::default()
        }
    }
}
