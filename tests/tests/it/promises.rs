//! Tests of threads and callers against the promises of C2, C5, C6 and C9.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use rb_core::{
    Background, Change, ClassRequest, Durability, FormatOptions, HeldLock, SeededRandom, Share,
    Simulator, Store, StoreOptions, SwitchPoint, format,
};
use rb_format::FORMAT_BLOCK;
use rb_io::{Engine, Limits};
use rb_testkit::{MemDevice, MemEngine};

struct Sim(Arc<MemDevice>);

impl Sim {
    fn new(slots: u64, log_blocks: Option<u64>) -> Sim {
        let classes = vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(slots),
        }];
        let limits = Limits::simple(512, 1 << 20, "memory device");
        let log_bytes = log_blocks.map(|blocks| blocks * FORMAT_BLOCK as u64);
        let bytes = rb_format::device_bytes_for(&classes, 1024, 0, log_bytes).unwrap();
        let sim = Sim(MemDevice::with_limits(bytes, limits));
        let options = FormatOptions {
            key_len_max: 1024,
            log_bytes,
            formatted_at: 0,
            random: Arc::new(SeededRandom::new(1)),
            ..FormatOptions::new(sim.engine(), classes)
        };
        format(&options).unwrap();
        sim
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(MemEngine::new(Arc::clone(&self.0)))
    }

    fn open(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        let mut options = StoreOptions {
            background: Background::Manual,
            buffer_bytes: Some(4 << 20),
            ..StoreOptions::default()
        };
        change(&mut options);
        Store::open(self.engine(), options).unwrap()
    }
}

/// A remove computed its log space before it checked the key: a key about as long as a log block divided by zero, a
/// longer one underflowed.
#[test]
fn removing_a_key_of_any_length_returns() {
    let sim = Sim::new(4, None);
    let store = sim.open(|_| {});
    store.put(b"k", b"v").unwrap();
    let mut panicked = Vec::new();
    for len in 3000..6000 {
        let key = vec![b'x'; len];
        let call = std::panic::AssertUnwindSafe(|| store.remove(&key).is_err());
        match std::panic::catch_unwind(call) {
            Ok(refused) => assert!(refused, "a key of {len} bytes"),
            Err(_) => panicked.push(len),
        }
    }
    let ends = (panicked.first(), panicked.last());
    assert!(
        panicked.is_empty(),
        "{} lengths panic, {ends:?}",
        panicked.len()
    );
}

/// The keys of a remove are logged in portions, and the ticket of the last portion stood for all: if all its keys were
/// refused, `EachBatch` acknowledged removes that were not durable, and the values were back after a crash.
#[test]
fn removes_before_a_portion_of_bad_keys_are_durable() {
    let sim = Sim::new(64, Some(64));
    let store = sim.open(|options| options.durability = Durability::EachBatch);
    store.put(b"k", b"v").unwrap();
    store.put(b"l", b"v").unwrap();
    let bad = vec![b'x'; 1025];
    let mut keys: Vec<&[u8]> = vec![b"k", b"l"];
    keys.extend((0..200).map(|_| &bad[..]));
    let answers = store.remove_many(&keys);
    assert!(matches!(answers[0], Ok(Some(_))), "{:?}", answers[0]);
    let after = Sim(sim.0.crash()).open(|_| {});
    assert!(after.get(b"k").unwrap().is_none(), "a removed key is back");
}

/// Lets a remove commit right after a put has searched the free slots a second time.
struct CommitsBetween {
    looks: AtomicU64,
    removed: Barrier,
    go: Barrier,
    durable: Barrier,
}

const REMOVER: &str = "remover";

fn is_remover() -> bool {
    std::thread::current().name() == Some(REMOVER)
}

impl Simulator for CommitsBetween {
    fn switch(&self, point: SwitchPoint) {
        match point {
            SwitchPoint::CommitBegins if is_remover() => {
                self.removed.wait();
                self.go.wait();
            }
            SwitchPoint::SlotsTaken if self.looks.fetch_add(1, Ordering::Relaxed) == 1 => {
                self.go.wait();
                self.durable.wait();
            }
            _ => {}
        }
    }

    fn blocked(&self, _: HeldLock) {}

    fn changed(&self, _: &Change<'_>) {}
}

impl fmt::Debug for CommitsBetween {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommitsBetween")
    }
}

/// A put that found no slot checked whether any wait for a commit. If another thread's commit had ended between its
/// search and that check, none did: the put failed, although a slot was free. The exhaustive search found it.
#[test]
fn a_put_finds_a_slot_that_another_commit_freed_after_its_search() {
    let sim = Sim::new(1, None);
    sim.open(|_| {}).put(b"b", b"1").unwrap();
    let between = Arc::new(CommitsBetween {
        looks: AtomicU64::new(0),
        removed: Barrier::new(2),
        go: Barrier::new(2),
        durable: Barrier::new(2),
    });
    let store = sim.open(|options| {
        options.durability = Durability::EachBatch;
        options.simulator = Some(Arc::clone(&between) as _);
    });
    std::thread::scope(|scope| {
        let remove = || {
            assert!(store.remove(b"b").unwrap().is_some());
            between.durable.wait();
        };
        let named = std::thread::Builder::new().name(REMOVER.into());
        named.spawn_scoped(scope, remove).unwrap();
        between.removed.wait();
        store.put(b"a", b"1").unwrap();
    });
    assert!(store.contains(b"a"));
}
