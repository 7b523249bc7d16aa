//! Tests that background work yields to callers: while a get is under way, each service sends little at a time and
//! pauses in between, and still completes.
//!
//! The device holds the get for the whole test, so the store is in use however slow the machine is. The tests compare
//! counts of requests, and the part of the time in which the service has one under way: a slow machine makes it
//! smaller.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_core::{
    ClassRequest, FormatOptions, Put, PutOptions, Scrub, Share, Source, Store, StoreOptions,
    Validate, format,
};
use rb_io::Engine;
use rb_testkit::{DriveEngine, DriveSpeed, Use};

const DEVICE_BYTES: usize = 192 << 20;
const FILLERS: u64 = 2048;
const FILLER_BYTES: usize = 1024;
/// Number of entries for which a section of a base is larger than a turn.
const MANY: u64 = 12 << 10;
/// Larger than a turn.
const LARGE_BYTES: usize = 1 << 20;
const LARGE: u64 = 4;
/// Bytes of a turn: see `rb-core/src/io/pace.rs`.
const TURN_BYTES: u64 = 128 << 10;
const TURN_REQUESTS: usize = 4;
const TURN_DISCARD_BYTES: u64 = 8 << 20;
/// A tenth, and the requests outside turns: a flush and a header.
const SHARE_MAX: f64 = 0.2;
/// So few that their records cause neither a commit nor a checkpoint.
const FREED: u64 = 64;
const LONG: Duration = Duration::from_mins(2);

struct Fixture {
    engine: Arc<DriveEngine>,
}

/// Returns a key of the length that makes a base large.
fn filler(n: u64) -> Vec<u8> {
    let mut key = rb_testkit::values::bytes(n, 1000);
    key[..8].copy_from_slice(&n.to_le_bytes());
    key
}

fn large(n: u64) -> Vec<u8> {
    format!("large {n}").into_bytes()
}

impl Fixture {
    fn new(fillers: u64) -> Fixture {
        let speed = DriveSpeed {
            channels: 8,
            transfer: Duration::from_micros(500),
            bytes_per_second: 1 << 30,
            flush: Duration::from_micros(100),
            discard: Duration::from_micros(500),
            discarded_per_second: 1 << 40,
        };
        let engine = Arc::new(DriveEngine::new(DEVICE_BYTES, speed));
        engine.set_timed(false);
        let fixture = Fixture { engine };
        let classes = [(4096, fillers + 8), (LARGE_BYTES as u64, LARGE + 8)];
        let classes = classes.map(|(slot_bytes, slots)| ClassRequest {
            slot_bytes,
            share: Share::Slots(slots),
        });
        let mut options = FormatOptions::new(fixture.source(), classes.to_vec());
        options.key_len_max = 1024;
        format(&options).unwrap();
        let store = fixture.open(|_| ());
        put(&store, 0..fillers);
        for n in 0..LARGE {
            store.put(&large(n), &vec![n as u8; LARGE_BYTES]).unwrap();
        }
        store.close().unwrap();
        fixture
    }

    fn source(&self) -> Source {
        Source::from(Arc::clone(&self.engine) as Arc<dyn Engine>)
    }

    fn open(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        let mut options = StoreOptions {
            validate: Validate::Off,
            ..StoreOptions::default()
        };
        change(&mut options);
        Store::open(self.source(), options).unwrap()
    }

    /// Runs `act` while the device holds a get. Returns what the services did after `act` called its argument, and the
    /// duration.
    fn during_a_get(&self, store: &Store, act: impl FnOnce(&dyn Fn())) -> (Use, Duration) {
        self.engine.hold_reads(0..DEVICE_BYTES as u64);
        let reader = store.clone();
        let reader = std::thread::spawn(move || reader.get(&large(0)).unwrap().unwrap().len());
        until(|| self.engine.held() > 0);
        let start = std::cell::Cell::new(Instant::now());
        act(&|| {
            self.engine.set_timed(true);
            self.engine.clear_last_use();
            start.set(Instant::now());
        });
        let (used, time) = (self.engine.unregistered_use(), start.get().elapsed());
        self.engine.set_timed(false);
        self.engine.release();
        assert_eq!(reader.join().unwrap(), LARGE_BYTES);
        (used, time)
    }
}

fn put(store: &Store, range: Range<u64>) {
    let numbers: Vec<u64> = range.collect();
    for some in numbers.chunks(64) {
        let keys: Vec<Vec<u8>> = some.iter().map(|n| filler(*n)).collect();
        let value = [1; FILLER_BYTES];
        let puts = keys.iter().map(|key| Put::new(key, &value)).collect();
        for put in store.put_many(puts, PutOptions::default()) {
            put.unwrap();
        }
    }
}

fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "it starves");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
fn check((used, time): (Use, Duration), requests: u64) {
    let share = used.busy.as_secs_f64() / time.as_secs_f64();
    let case = format!("{used:?} in {time:?}, a share of {share:.3}");
    assert!(used.requests >= requests, "too little to judge: {case}");
    assert!(used.under_way_max <= TURN_REQUESTS, "{case}");
    assert!(used.transfer_max <= TURN_BYTES, "{case}");
    assert!(used.discard_max <= TURN_DISCARD_BYTES, "{case}");
    assert!(share <= SHARE_MAX, "{case}");
}

/// A scrub had 16 values in flight; one value of 64 MiB kept the device busy for as long as a thousand gets.
#[test]
fn a_scrub_yields_to_gets() {
    let fixture = Fixture::new(FILLERS);
    let store = fixture.open(|options| {
        options.scrub = NonZeroU64::new(1 << 30).map(Scrub::daily);
    });
    let used = fixture.during_a_get(&store, |begin| {
        begin();
        until(|| store.stats().scrub.passes == 1);
    });
    assert_eq!(store.stats().scrub.entries, FILLERS + LARGE);
    check(used, 32);
    store.close().unwrap();
}

/// A validation had as many headers in flight as a queue takes.
#[test]
fn a_validation_yields_to_gets() {
    let fixture = Fixture::new(FILLERS);
    let store = fixture.open(|_| ());
    put(&store, 0..1);
    // Leaves the store as a crash would.
    drop(store);
    let store = fixture.open(|options| options.validate = Validate::Background);
    let used = fixture.during_a_get(&store, |begin| {
        begin();
        until(|| store.stats().validated >= FILLERS);
    });
    check(used, 32);
    store.close().unwrap();
}

/// Discards had eight in flight, of 128 MiB each.
#[test]
fn discards_yield_to_gets() {
    let fixture = Fixture::new(FILLERS);
    let store = fixture.open(|options| {
        options.discard_freed = true;
        options.sync_interval = LONG;
    });
    // Not adjacent, so that each is a request.
    for n in (0..FREED).map(|n| n * 4) {
        assert!(store.remove(&filler(n)).unwrap().is_some());
    }
    let used = fixture.during_a_get(&store, |begin| {
        store.sync().unwrap();
        begin();
        until(|| store.stats().discard.slots == FREED);
    });
    check(used, 32);
    store.close().unwrap();
}

/// A checkpoint wrote each section in one request, as large as the device takes, and yielded only the processor.
#[test]
fn a_checkpoint_yields_to_gets_and_one_that_is_asked_for_does_not() {
    let fixture = Fixture::new(MANY);
    let store = fixture.open(|_| ());
    let due = store.stats().checkpoint_blocks;
    let mut n = 0;
    while store.stats().replay_blocks < due - 16 {
        put(&store, n..n + 1);
        n += 1;
    }
    store.sync().unwrap();
    let used = fixture.during_a_get(&store, |begin| {
        fixture.engine.set_timed(true);
        while !store.stats().checkpointing {
            put(&store, n..n + 1);
            n += 1;
        }
        store.sync().unwrap();
        begin();
        assert_eq!(store.stats().checkpoints, 0);
        until(|| store.stats().checkpoints == 1);
    });
    check(used, 32);
    let (used, _) = fixture.during_a_get(&store, |begin| {
        begin();
        store.checkpoint().unwrap();
    });
    assert!(used.transfer_max > TURN_BYTES, "{used:?}");
    store.close().unwrap();
}
