//! Tests of the scrubber: it drops what is rotten and nothing else, at the given rate, without disturbing callers.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rb_core::{Background, Error, Event, Events, ManualClock, Put, PutOptions, Scrub, Store};
use rb_io::OpKind;

use crate::support::{EIO, FileFixture, Sim, corrupt, ends_within, engines, key, slots_of, value};

const LONG: Duration = Duration::from_secs(10);

/// A rate that no test reaches.
fn unlimited() -> Option<Scrub> {
    Some(Scrub {
        bytes_per_second: NonZeroU64::MAX,
        pass_interval: Duration::from_secs(1),
    })
}

/// Opens a store on `sim` with a manual clock, scrubbed when the test requests it.
fn scrubbed(sim: &Sim, scrub: Option<Scrub>) -> (Store, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let store = sim.open_with(|options| {
        options.clock = clock.clone();
        options.scrub = scrub;
        options.shards = Some(2);
    });
    (store, clock)
}

fn fill(store: &Store, count: u64, len: usize) {
    for n in 0..count {
        store.put(&key(n), &value(n, len)).unwrap();
    }
}

/// Runs a pass to its end; it must not need more time.
fn pass(store: &Store) {
    let passes = || store.stats().scrub.passes;
    let before = passes();
    while passes() == before {
        let wait = store.step_scrub(3).unwrap().unwrap();
        assert!(wait.is_zero() || passes() > before, "{wait:?} to wait");
    }
}

#[test]
fn a_pass_verifies_whole_entries_and_drops_rotten_ones() {
    let sim = Sim::new(16);
    let store = sim.open();
    fill(&store, 12, 3000);
    store.sync().unwrap();
    let sim = sim.crash();
    let (store, _) = scrubbed(&sim, unlimited());
    let (header, payload) = (
        store.geometry().slot_offset(3),
        store.geometry().payload_offset(7),
    );
    for at in [header, payload].map(Option::unwrap) {
        sim.device.corrupt(at + 10..at + 11);
    }
    pass(&store);
    let stats = store.stats();
    assert_eq!(
        (stats.scrub.entries, stats.scrub.dropped, stats.dropped),
        (12, 2, 2)
    );
    // Each rotten one was read twice.
    assert_eq!(stats.scrub.bytes, 14 * 8192);
    assert_eq!(sim.watch.count("dropped"), 2);
    assert!(
        sim.watch
            .lines()
            .iter()
            .all(|line| line.ends_with("FailedScrub"))
    );
    assert_eq!(
        (stats.index.classes[0].live, stats.index.classes[0].free),
        (10, 6)
    );
    store.for_each(|entry| {
        assert!(entry.verified);
        true
    });
    // Their slots are reusable like any other.
    fill(&store, 16, 3000);
    assert_eq!(store.stats().index.classes[0].live, 16);
    store.audit().unwrap();
}

#[test]
fn one_bad_read_drops_nothing_and_failed_reads_are_counted() {
    let sim = Sim::new(8);
    let (store, _) = scrubbed(&sim, unlimited());
    fill(&store, 4, 3000);
    let slot = |n| store.geometry().slot_offset(n).unwrap();
    sim.device.garble_next(slot(1)..slot(2));
    sim.device.fail_next(OpKind::Read, slot(2)..slot(3), EIO);
    pass(&store);
    let stats = store.stats();
    assert_eq!(
        (stats.scrub.entries, stats.scrub.errors, stats.dropped),
        (3, 1, 0)
    );
    assert_eq!(stats.index.classes[0].live, 4);
    assert!(sim.watch.lines().is_empty());
}

/// Entries of two lengths, one of them larger than what the rate accumulates: in any number of steps, at any time, no
/// more than the rate and one entry; and a caller that steps on schedule gets the full rate.
#[test]
fn the_rate_is_kept_to_the_byte() {
    const RATE: u64 = 40_000;
    const LARGEST: u64 = 8192;
    const SAVED: u64 = RATE / 10;
    let scrub = Scrub {
        bytes_per_second: NonZeroU64::new(RATE).unwrap(),
        pass_interval: Duration::from_secs(1),
    };
    for impatient in [false, true] {
        let sim = Sim::new(64);
        let (store, clock) = scrubbed(&sim, Some(scrub));
        fill(&store, 64, 4000);
        // A late caller does not catch up.
        clock.advance(Duration::from_secs(1000));
        let mut elapsed = Duration::ZERO;
        while store.stats().scrub.passes == 0 {
            let wait = store.step_scrub(8).unwrap().unwrap();
            let read = store.stats().scrub.bytes;
            let allowed = RATE * elapsed.as_nanos() as u64 / 1_000_000_000;
            assert!(
                read <= allowed + SAVED + LARGEST,
                "{read} bytes within {elapsed:?}"
            );
            assert!(
                read + LARGEST + SAVED >= allowed,
                "only {read} bytes within {elapsed:?}"
            );
            let step = if impatient {
                wait.min(Duration::from_millis(7))
            } else {
                wait
            };
            clock.advance(step);
            elapsed += step;
        }
        assert_eq!(store.stats().scrub.bytes, 64 * LARGEST);
        let seconds = elapsed.as_secs_f64();
        assert!(
            (12.5..13.5).contains(&seconds),
            "{seconds} s for 13.1 s of bytes"
        );
    }
}

#[test]
fn a_pass_begins_when_its_time_has_come() {
    let sim = Sim::new(8);
    let scrub = Scrub::daily(NonZeroU64::MAX);
    let (store, clock) = scrubbed(&sim, Some(scrub));
    // Also without entries: it must not loop.
    for passes in 1..4 {
        pass(&store);
        let wait = store.step_scrub(8).unwrap().unwrap();
        assert_eq!(wait, scrub.pass_interval);
        clock.advance(wait - Duration::from_nanos(1));
        assert_eq!(store.step_scrub(8).unwrap(), Some(Duration::from_nanos(1)));
        clock.advance(Duration::from_nanos(1));
        assert_eq!(store.stats().scrub.passes, passes);
        store.put(&key(passes), b"v").unwrap();
    }
    assert_eq!(store.stats().scrub.entries, 3);
    let (store, _) = scrubbed(&sim, None);
    assert_eq!(store.step_scrub(8).unwrap(), None, "off unless asked for");
    let hot = Scrub {
        pass_interval: Duration::ZERO,
        ..scrub
    };
    let refused = sim
        .try_open(|options| options.scrub = Some(hot))
        .unwrap_err();
    assert!(
        refused.to_string().contains("scrub.pass_interval"),
        "{refused}"
    );
}

/// A scrubber with leases would make this put fail, and would change the victim of the next eviction.
#[test]
fn scrubbing_holds_back_no_eviction_and_changes_no_recency() {
    let sim = Sim::new(8);
    let store = sim.open_with(|options| {
        options.scrub = unlimited();
        options.shards = Some(1);
    });
    fill(&store, 8, 3000);
    sim.device.hold(slots_of(&store));
    let scrubbing = {
        let store = store.clone();
        std::thread::spawn(move || store.step_scrub(100).unwrap())
    };
    sim.wait_for_held(8);
    // Written into the slot of key 0, before its read completes.
    let putting = {
        let store = store.clone();
        std::thread::spawn(move || store.put(&key(8), &value(8, 3000)))
    };
    sim.wait_for_held(9);
    assert_eq!(sim.watch.lines(), ["evicted key-0"]);
    let offset = store.geometry().slot_offset(0).unwrap();
    sim.device.garble_next(offset..offset + 8192);
    sim.device.release();
    scrubbing.join().unwrap();
    putting.join().unwrap().unwrap();
    let stats = store.stats();
    assert_eq!(
        (stats.scrub.entries, stats.dropped),
        (7, 0),
        "{:?}",
        sim.watch.lines()
    );
    assert_eq!(stats.scrub.passes, 1);
    store.put(&key(9), b"v").unwrap();
    assert_eq!(sim.watch.lines(), ["evicted key-0", "evicted key-1"]);
    store.audit().unwrap();
}

#[test]
fn scrubbing_needs_no_buffer_of_gets_and_puts() {
    let sim = Sim::new(200);
    let (store, _) = scrubbed(&sim, unlimited());
    fill(&store, 128, 3000);
    // The caller holds all of the store's buffers.
    let values: Vec<_> = (0..128)
        .map(|n| store.get(&key(n)).unwrap().unwrap())
        .collect();
    assert!(matches!(store.put(b"k", b"v"), Err(Error::Busy { .. })));
    pass(&store);
    assert_eq!(store.stats().scrub.entries, 128);
    drop(values);
    store.put(b"k", b"v").unwrap();
}

/// The completions of a batch that was given up must not be taken for those of another.
#[test]
fn a_silent_device_is_left_alone_for_a_while_and_nothing_is_dropped() {
    let sim = Sim::new(32);
    let clock = Arc::new(ManualClock::new());
    let store = sim.open_with(|options| {
        options.clock = clock.clone();
        options.scrub = unlimited();
        options.io_deadline = Duration::from_millis(20);
    });
    fill(&store, 32, 3000);
    sim.device.hold(slots_of(&store));
    assert!(matches!(store.step_scrub(8), Err(Error::TimedOut { .. })));
    sim.device.release();
    assert!(store.step_scrub(8).unwrap() > Some(Duration::from_secs(50)));
    sim.device.break_queues(EIO);
    clock.advance(Duration::from_mins(1));
    assert!(store.step_scrub(8).is_err());
    sim.device.heal();
    clock.advance(Duration::from_mins(1));
    pass(&store);
    pass_after(&store, &clock);
    let stats = store.stats();
    assert_eq!(
        (stats.scrub.entries, stats.scrub.errors, stats.dropped),
        (16 + 32, 2, 0)
    );
}

fn pass_after(store: &Store, clock: &ManualClock) {
    clock.advance(Duration::from_secs(2));
    pass(store);
}

/// An observer that calls the store when an entry is dropped.
#[derive(Debug, Default)]
struct Caller(Mutex<Option<Store>>);

impl Events for Caller {
    fn event(&self, event: &Event<'_>) {
        let store = self.0.lock().unwrap().clone();
        if let (Event::Dropped { .. }, Some(store)) = (event, store) {
            drop(store.step_validate(1));
            drop(store.step_scrub(1));
        }
    }
}

/// The validator reported a dropped entry while it held its own lock: an observer that validated deadlocked.
#[test]
fn an_observer_of_a_drop_may_validate_and_scrub() {
    for steps in [
        |store: &Store| drop(store.step_validate(8)),
        |store: &Store| drop(store.step_scrub(8)),
    ] {
        let sim = Sim::new(8);
        let store = sim.open();
        fill(&store, 4, 3000);
        store.sync().unwrap();
        let sim = sim.crash();
        let caller = Arc::new(Caller::default());
        let events = caller.clone();
        let store = sim.open_with(|options| {
            options.events = Some(events);
            options.scrub = unlimited();
        });
        *caller.0.lock().unwrap() = Some(store.clone());
        let at = store.geometry().slot_offset(0).unwrap();
        sim.device.corrupt(at..at + 1);
        let steps = {
            let store = store.clone();
            move || steps(&store)
        };
        assert!(ends_within(LONG, steps), "it deadlocks");
        assert_eq!(store.stats().dropped, 1);
        *caller.0.lock().unwrap() = None;
    }
}

/// With the store's own thread, over files, on both engines.
#[test]
fn the_stores_own_thread_finds_rot_in_a_file() {
    for engine in engines() {
        let fixture = FileFixture::new(256 << 10, 16).on(engine);
        let store = fixture.open();
        let puts: Vec<_> = (0..16).map(|n| (key(n), value(n, 200_000))).collect();
        let puts = puts.iter().map(|(k, v)| Put::new(k, v)).collect();
        assert!(
            store
                .put_many(puts, PutOptions::default())
                .iter()
                .all(Result::is_ok)
        );
        let rotten = store.geometry().payload_offset(5).unwrap() + 100_000;
        store.close().unwrap();
        drop(store);
        corrupt(&fixture, rotten, 1);
        let store = fixture.open_with(|options| {
            options.scrub = unlimited();
            options.background = Background::Threads;
        });
        let start = Instant::now();
        while store.stats().scrub.passes == 0 {
            assert!(
                start.elapsed() < LONG,
                "{engine}: {:?}",
                store.stats().scrub
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(store.stats().scrub.dropped, 1, "{engine}");
        assert_eq!(store.stats().index.classes[0].live, 15, "{engine}");
        // The thread sleeps until the next pass, and must be woken.
        assert!(
            ends_within(LONG, move || store.close().unwrap()),
            "{engine}"
        );
    }
}
