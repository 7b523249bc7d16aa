//! Tests the bound for the memory of an open store that `docs/operations.md` states. A separate process, because it
//! counts every allocation.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

use peak_alloc::PeakAlloc;
use rb_core::{ClassRequest, EngineKind, FormatOptions, Share, Store, StoreOptions, format};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const SLOTS: u64 = 60_000;
const SHARDS: u32 = 64;
const MIB: u64 = 1 << 20;

/// Returns the heap bytes by the formula of `docs/operations.md`, without its `fixed` part.
fn formula(slots: u64, most_entries: u64, key_bytes: u64, entries: u64) -> u64 {
    let debug = if cfg!(debug_assertions) { 8 * slots } else { 0 };
    let cells = (key_bytes + 7 * entries) * 25 / 16;
    debug + 16 * slots + 48 * most_entries + cells + 40_960 * u64::from(SHARDS)
}

/// Memory other than index and buffers while no base is being written: log blocks, queues, threads.
const FIXED: u64 = 2 * MIB;

struct Used {
    store: Store,
    before: u64,
    /// The maximum number of entries so far.
    most: u64,
}

impl Used {
    /// Puts a key of each length in turn.
    fn put(&mut self, lengths: std::ops::RangeInclusive<usize>, entries: u64) {
        let count = lengths.end() - lengths.start() + 1;
        for n in 0..entries {
            let mut key = n.to_le_bytes().to_vec();
            key.resize(lengths.start() + n as usize % count, b'k');
            self.store.put(&key, b"v").unwrap();
            self.most = self.most.max(self.store.stats().index.entries);
        }
    }

    fn remove_all_but(&self, rest: usize) {
        let mut keys = Vec::new();
        self.store.for_each(|entry| {
            keys.push(entry.key.to_vec());
            true
        });
        for key in keys.split_off(rest) {
            self.store.remove(&key).unwrap();
        }
    }

    /// Checks that the heap is within the formula, which is at most a third too high.
    #[track_caller]
    fn is_bounded(&self, what: &str) {
        // Waits for earlier work to end: no base is being written, and all changes are durable.
        self.store.checkpoint().unwrap();
        let (mut entries, mut key_bytes) = (0, 0);
        self.store.for_each(|entry| {
            entries += 1;
            key_bytes += entry.key.len() as u64;
            true
        });
        let used = HEAP.current_usage() as u64 - self.before;
        let bound = formula(SLOTS, self.most, key_bytes, entries);
        assert!(
            used <= bound + FIXED,
            "{what}: {used} bytes of heap for {entries} entries, the formula says {bound} and {FIXED}"
        );
        assert!(
            used + 2 * FIXED >= bound / 3 * 2,
            "{what}: {used} bytes of heap for {entries} entries, the formula says {bound}: too loose to be useful"
        );
    }
}

/// Keys of every length, then of one, then few: 514 MiB were held for 19 MiB of keys. The formula includes a bound of
/// twice the live keys' memory.
#[test]
fn an_open_store_is_within_the_formula_of_the_documentation() {
    let dir = tempfile::tempdir().unwrap();
    let class = ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(SLOTS),
    };
    let made = FormatOptions {
        key_len_max: 1024,
        sparse: true,
        ..FormatOptions::new(dir.path().join("store"), vec![class])
    };
    format(&made).unwrap();
    let before = HEAP.current_usage() as u64;
    let options = StoreOptions {
        engine: EngineKind::Posix,
        shards: Some(SHARDS),
        ..StoreOptions::default()
    };
    let store = Store::open(dir.path().join("store"), options.clone()).unwrap();
    let mut used = Used {
        store,
        before,
        most: 0,
    };
    used.is_bounded("empty");
    used.put(8..=1024, 40_000);
    used.is_bounded("40,000 keys of 8 to 1024 bytes");
    used.remove_all_but(2_000);
    used.is_bounded("2,000 of them");
    used.put(32..=32, 20_000);
    used.remove_all_but(20_000);
    used.is_bounded("mostly keys of 32 bytes");
    used.store.close().unwrap();
    drop(used.store);
    let store = Store::open(dir.path().join("store"), options).unwrap();
    let most = store.stats().index.entries;
    Used {
        store,
        before,
        most,
    }
    .is_bounded("opened again");
}
