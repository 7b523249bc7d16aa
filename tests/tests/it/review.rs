//! Review: each test states what the contract asks for; the failing ones are findings.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rb_core::{
    Background, ClassRequest, Error, Event, Events, FormatOptions, Put, PutOptions, SeededRandom,
    Share, Store, StoreOptions, format_engine,
};
use rb_format::{LogPosition, log_block_offset};
use rb_io::{Engine, OpKind};
use rb_testkit::{MemDevice, MemEngine};

use crate::support::{Watch, key, value};

const EIO: i32 = 5;

struct Sim {
    device: Arc<MemDevice>,
    watch: Arc<Watch>,
}

impl Sim {
    fn new(slots: u64) -> Sim {
        Sim::with(slots, 64, None)
    }

    fn with(slots: u64, key_len_max: u32, log_bytes: Option<u64>) -> Sim {
        let classes = vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(slots),
        }];
        let bytes = rb_format::device_bytes_for(&classes, key_len_max, 0, log_bytes).unwrap();
        let sim = Sim {
            device: MemDevice::new(bytes),
            watch: Watch::new(),
        };
        let options = FormatOptions {
            key_len_max,
            log_bytes,
            random: Arc::new(SeededRandom::new(1)),
            ..FormatOptions::new("", classes)
        };
        format_engine(&sim.engine(), &options).unwrap();
        sim
    }

    fn on(device: Arc<MemDevice>) -> Sim {
        Sim {
            device,
            watch: Watch::new(),
        }
    }

    fn crash(&self) -> Sim {
        Sim::on(self.device.crash())
    }

    fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(MemEngine::new(Arc::clone(&self.device)))
    }

    fn try_open(
        &self,
        change: impl FnOnce(&mut StoreOptions),
    ) -> Result<Store, rb_core::OpenError> {
        let mut options = StoreOptions {
            background: Background::Manual,
            buffer_bytes: Some(1 << 20),
            events: Some(self.watch.clone()),
            ..StoreOptions::default()
        };
        change(&mut options);
        Store::open_engine(self.engine(), options)
    }

    fn open(&self) -> Store {
        self.try_open(|_| {}).unwrap()
    }
}

fn slots_of(store: &Store, device: &MemDevice) -> std::ops::Range<u64> {
    store.geometry().slot_offset(0).unwrap()..device.capacity_bytes()
}

/// Runs `work` in a thread; false if it has not ended in time.
fn ends_within(time: Duration, work: impl FnOnce() + Send + 'static) -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = sender.send(());
    });
    receiver.recv_timeout(time).is_ok()
}

#[test]
fn t01_a_store_recovers_from_a_burst_of_failed_writes() {
    let sim = Sim::new(8);
    let store = sim.open();
    let slots = slots_of(&store, &sim.device);
    sim.device.fail_always(OpKind::Write, slots, EIO);
    for n in 0..8 {
        assert!(store.put(&key(n), b"v").is_err());
    }
    sim.device.heal();
    store.sync().unwrap();
    let class = store.stats().index.classes[0];
    let answer = store.put(&key(9), b"v");
    assert!(answer.is_ok(), "{answer:?} {class:?}");
}

#[test]
fn t02_busy_queues_do_not_make_bad_slots() {
    let sim = Sim::new(4);
    let store = sim
        .try_open(|o| {
            o.background = Background::Threads;
            o.queues_max = 1;
            o.busy_wait = Duration::from_millis(5);
        })
        .unwrap();
    store.put(&key(0), b"v").unwrap();
    store.sync().unwrap();
    // One get is slow (a busy device, nothing wrong with it); meanwhile a put finds no queue.
    let slots = slots_of(&store, &sim.device);
    for n in 1..30 {
        sim.device.hold(slots.clone());
        let slow = store.clone();
        let thread = std::thread::spawn(move || slow.get(&key(0)));
        while sim.device.held() == 0 {
            std::thread::yield_now();
        }
        let answer = store.put(&key(n), b"v");
        assert!(answer.is_err(), "{answer:?}");
        sim.device.release();
        thread.join().unwrap().unwrap();
        drop(store.remove(b"something to commit"));
        store.sync().unwrap();
        if !store.contains(&key(0)) {
            drop(store.put(&key(0), b"v"));
        }
        if !store.contains(&key(0)) {
            break;
        }
    }
    let class = store.stats().index.classes[0];
    assert_eq!(class.bad, 0, "{class:?} {:?}", sim.watch.lines());
}

#[test]
fn t03_removing_many_keys_does_not_poison() {
    let sim = Sim::with(64, 1024, Some(64 << 20));
    let store = sim.open();
    let keys: Vec<Vec<u8>> = (0..10_000_u64)
        .map(|n| {
            let mut key = vec![b'k'; 1000];
            key[..8].copy_from_slice(&n.to_le_bytes());
            key
        })
        .collect();
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let answers = store.remove_many(&asked);
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers[0]);
    let synced = store.sync();
    assert!(synced.is_ok(), "{synced:?}");
}

#[test]
fn t04_an_unreadable_log_block_is_not_the_end_of_the_log() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"kept", b"kept").unwrap();
    store.put(b"gone", b"gone").unwrap();
    store.sync().unwrap();
    store.remove(b"gone").unwrap();
    store.put(b"late", b"late").unwrap();
    store.sync().unwrap();
    let log = store.superblock().log.clone();
    let sim = sim.crash();
    // Block 2 cannot be read while opening, twice; then the drive is well again.
    let at = log_block_offset(&log, 2);
    sim.device.fail_times(OpKind::Read, at..at + 4096, EIO, 2);
    let Ok(store) = sim.try_open(|_| {}) else {
        return;
    };
    let report = store.recovery().clone();
    if report.lost_metadata.is_none() {
        assert!(
            store.get(b"gone").unwrap().is_none(),
            "a removed key is back, unreported"
        );
        assert!(
            store.get(b"late").unwrap().is_some(),
            "a synced key is lost, unreported"
        );
    }
}

#[test]
fn t05_a_base_written_after_lost_metadata_outranks_every_older_one() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"gone", b"gone").unwrap();
    for n in 0..5 {
        store.put(&key(n), b"v").unwrap();
        store.checkpoint().unwrap();
    }
    let (a, b) = (
        store.superblock().base_a.clone(),
        store.superblock().base_b.clone(),
    );
    drop(store);
    let sim = sim.crash();
    // Base A (older) is damaged, the header of base B cannot be read for a moment.
    let seq = |sim: &Sim| sim.open().recovery().base_sequence;
    let newest = seq(&Sim::on(sim.device.crash())).unwrap();
    let (bad, blind) = if newest % 2 == 0 { (a, b) } else { (b, a) };
    let _ = (&bad, &blind);
    // Find which region is the newest: sequence 1 is in A, 2 in B, ...
    sim.device.corrupt(bad.offset + 100..bad.offset + 101);
    sim.device
        .fail_next(OpKind::Read, blind.offset..blind.offset + 4096, EIO);
    let Ok(store) = sim.try_open(|_| {}) else {
        return;
    };
    assert!(store.recovery().lost_metadata.is_some());
    store.remove(b"gone").unwrap();
    store.put(b"new", b"new").unwrap();
    store.sync().unwrap();
    drop(store);
    let sim = sim.crash();
    let store = sim.open();
    let report = store.recovery().clone();
    if report.lost_metadata.is_none() {
        assert!(
            store.get(b"gone").unwrap().is_none(),
            "resurrected, unreported: {report:?}"
        );
        assert!(
            store.get(b"new").unwrap().is_some(),
            "lost, unreported: {report:?}"
        );
    }
}

#[test]
fn t06_a_writer_that_started_empty_is_seen_by_the_former_one() {
    let sim = Sim::new(8);
    sim.open().close().unwrap();
    let first = sim.open(); // opening 2: the other incarnation block
    first.put(b"k", b"first").unwrap();
    first.sync().unwrap();
    let second = sim.try_open(|o| o.start_empty = true).unwrap();
    second.put(b"l", b"second").unwrap();
    second.sync().unwrap();
    first.put(b"m", b"first").unwrap();
    let answer = first.sync();
    drop(first);
    let sim = sim.crash();
    let store = sim.open();
    let l = store.get(b"l").unwrap().is_some();
    assert!(
        answer.is_err(),
        "the stale writer went on; what the other synced is there: {l}; {:?}",
        store.recovery()
    );
}

#[test]
fn t07_a_checkpoint_looks_for_another_writer() {
    let sim = Sim::with(8, 64, Some(64 * 4096));
    let first = sim.open();
    let second = sim.open();
    for n in 0..100 {
        second.put(&key(n % 6), b"second").unwrap();
        second.sync().unwrap();
        second.step_checkpoint().unwrap();
    }
    let sequence = || Sim::on(sim.device.crash()).open().recovery().base_sequence;
    let before = sequence();
    // The first writer, long idle, closes or checkpoints. It has nothing to commit.
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(first.checkpoint());
    }
    let sim = sim.crash();
    let store = sim.open();
    let there: Vec<_> = (0..6)
        .map(|n| store.get(&key(n)).unwrap().is_some())
        .collect();
    assert!(
        answers.iter().any(Result::is_err),
        "before {before:?}; stale checkpoints went through; there: {there:?}; {:?}",
        store.recovery()
    );
}

#[test]
fn t08_close_does_not_hang_on_a_stuck_async_operation() {
    for what in 0..3 {
        let sim = Sim::new(8);
        let store = sim
            .try_open(|o| {
                o.background = Background::Threads;
                o.io_deadline = Duration::from_millis(100);
            })
            .unwrap();
        store.put(&key(0), b"v").unwrap();
        let slots = slots_of(&store, &sim.device);
        sim.device.hold(slots);
        let k = key(0);
        let op = store.get_many_async(&[&k]);
        match what {
            0 => assert!(
                ends_within(Duration::from_secs(5), move || drop(store.close())),
                "close hangs"
            ),
            1 => assert!(
                ends_within(Duration::from_secs(5), move || drop(store)),
                "drop hangs"
            ),
            _ => assert!(
                op.wait_for(Duration::from_secs(5)).is_ok(),
                "an async get has no deadline"
            ),
        }
        sim.device.release();
    }
}

#[test]
fn t08b_an_async_get_has_a_deadline() {
    let sim = Sim::new(8);
    let store = sim
        .try_open(|o| {
            o.background = Background::Threads;
            o.io_deadline = Duration::from_millis(100);
        })
        .unwrap();
    store.put(&key(0), b"v").unwrap();
    let slots = slots_of(&store, &sim.device);
    sim.device.hold(slots);
    let k = key(0);
    let op = store.get_many_async(&[&k]);
    let late = op.wait_for(Duration::from_secs(3)).is_err();
    sim.device.release();
    assert!(!late, "an async get has no deadline");
}

#[test]
fn t09_closing_twice_at_once_is_clean() {
    for round in 0..10 {
        let sim = Sim::new(4096);
        let store = sim
            .try_open(|o| o.background = Background::Threads)
            .unwrap();
        for n in 0..400 {
            store.put(&key(n), b"v").unwrap();
        }
        let barrier = Arc::new(std::sync::Barrier::new(2));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (store, barrier) = (store.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    store.close()
                })
            })
            .collect();
        let answers: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        drop(store);
        let store = sim.crash().open();
        assert!(
            answers.iter().all(Result::is_ok),
            "round {round}: {answers:?}"
        );
        assert!(store.recovery().clean, "round {round}");
    }
}

#[test]
fn t10_an_opening_that_crashed_is_not_clean() {
    let sim = Sim::new(4);
    let store = sim.open();
    for n in 0..4 {
        store.put(&key(n), b"v").unwrap();
    }
    store.close().unwrap();
    drop(store);
    let store = sim.open();
    assert!(store.recovery().clean);
    for n in 4..8 {
        store.put(&key(n), b"v").unwrap(); // evicts and overwrites every slot
    }
    // power off before anything was committed, all data writes landed
    let image = sim.device.live_image();
    let store = Sim::on(MemDevice::from_image(&image)).open();
    assert!(
        !store.recovery().clean,
        "a crash is reported as a clean shutdown: {:?}",
        store.recovery()
    );
}

#[test]
fn t11_a_newer_bases_header_tells_how_long_the_log_was() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"gone", b"gone").unwrap();
    store.checkpoint().unwrap();
    store.put(b"x", b"x").unwrap();
    store.sync().unwrap();
    store.remove(b"gone").unwrap();
    store.put(b"late", b"late").unwrap();
    store.checkpoint().unwrap();
    let (log, b) = (
        store.superblock().log.clone(),
        [
            store.superblock().base_a.clone(),
            store.superblock().base_b.clone(),
        ],
    );
    let sim = sim.crash();
    // The last log block (3) and the newest base's section are lost by the device.
    let at = log_block_offset(&log, 3);
    sim.device.corrupt(at + 200..at + 201);
    for region in &b {
        // the newest base: bigger sequence. Format wrote 1 in A, so 2 is in B and 3 in A.
        let _ = region;
    }
    sim.device
        .corrupt(b[0].offset + 4096 + 64..b[0].offset + 4096 + 65);
    let store = sim.open();
    let report = store.recovery().clone();
    if report.lost_metadata.is_none() {
        assert!(
            store.get(b"gone").unwrap().is_none(),
            "resurrected, unreported: {report:?}"
        );
        assert!(
            store.get(b"late").unwrap().is_some(),
            "lost, unreported: {report:?}"
        );
    }
}

#[test]
fn t12_a_slow_read_at_open_is_not_damage() {
    for region in 0..4 {
        let sim = Sim::new(8);
        let store = sim.open();
        store.put(b"kept", b"kept").unwrap();
        store.checkpoint().unwrap();
        store.put(b"late", b"late").unwrap();
        store.sync().unwrap();
        let s = store.superblock().clone();
        let at = [
            0,
            s.base_a.offset,
            s.base_b.offset,
            log_block_offset(&s.log, LogPosition::FIRST.sequence + 1),
        ][region];
        let sim = sim.crash();
        sim.device.hold(at..at + 4096);
        let device = sim.device.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(230));
            device.release();
        });
        let opened = sim.try_open(|o| o.io_deadline = Duration::from_millis(200));
        thread.join().unwrap();
        if let Ok(store) = opened {
            let report = store.recovery();
            println!("region {region}: opened {report:?}");
            assert!(
                report.lost_metadata.is_none(),
                "region {region}: {report:?}"
            );
            assert!(
                store.get(b"kept").unwrap().is_some(),
                "region {region}: {report:?}"
            );
            assert!(
                store.get(b"late").unwrap().is_some(),
                "region {region}: {report:?}"
            );
        } else {
            println!("region {region}: {:?}", opened.err());
        }
    }
}

#[derive(Debug, Default)]
struct Calls(Mutex<Option<Store>>, u32);
impl Events for Calls {
    fn event(&self, event: &Event<'_>) {
        if let Event::Poisoned { .. } = event
            && let Some(store) = self.0.lock().unwrap().take()
        {
            match self.1 {
                0 => drop(store.step_commit()),
                1 => drop(store.sync()),
                _ => drop(store.checkpoint()),
            }
        }
    }
}

#[test]
fn t13_an_observer_may_call_the_store() {
    for call in 0..3 {
        let sim = Sim::new(8);
        let calls = Arc::new(Calls(Mutex::default(), call));
        let events = calls.clone();
        let store = sim.try_open(|o| o.events = Some(events)).unwrap();
        store.put(b"k", b"v").unwrap();
        *calls.0.lock().unwrap() = Some(store.clone());
        sim.device.fail_always(OpKind::Flush, 0..1, EIO);
        let done = ends_within(Duration::from_secs(3), move || {
            drop(store.checkpoint());
        });
        assert!(done, "deadlock in the observer, call {call}");
    }
}

struct InlineWaker(Store);
impl std::task::Wake for InlineWaker {
    fn wake(self: Arc<Self>) {
        // An executor that polls in place: the woken task puts and syncs.
        drop(self.0.put(b"next", b"v"));
        drop(self.0.sync());
    }
}

#[test]
fn t13b_a_waker_may_use_the_store() {
    let sim = Sim::new(8);
    let store = sim
        .try_open(|o| {
            o.background = Background::Threads;
            o.sync_interval = Duration::from_millis(300);
        })
        .unwrap();
    store.put(b"k", b"v").unwrap();
    let waker = std::task::Waker::from(Arc::new(InlineWaker(store.clone())));
    sim.device.hold(0..1); // flushes wait
    let mut op = store.sync_async();
    let mut cx = std::task::Context::from_waker(&waker);
    let first = Future::poll(std::pin::Pin::new(&mut op), &mut cx);
    assert!(first.is_pending());
    while sim.device.held() == 0 {
        std::thread::yield_now();
    }
    sim.device.release();
    std::thread::sleep(Duration::from_millis(300));
    let other = store.clone();
    assert!(
        ends_within(Duration::from_secs(3), move || {
            drop(other.put(b"z", b"z"));
            drop(other.sync());
        }),
        "deadlock in commit"
    );
}

#[test]
fn t14_close_on_a_full_ring_is_clean() {
    let sim = Sim::with(8, 64, Some(64 * 4096));
    let store = sim.open();
    store.put(b"a", b"v").unwrap();
    store.sync().unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    for n in 0.. {
        if let Err(error) = store.put(&key(n % 4), b"v") {
            println!("{n}: {error:?} {:?}", store.stats().replay_blocks);
            break;
        }
        store.sync().unwrap();
    }
    let answer = store.close();
    println!("{answer:?}");
    drop(store);
    assert!(answer.is_ok(), "{answer:?}");
    assert!(sim.open().recovery().clean);
}

#[test]
fn t15_a_batch_of_removes_larger_than_the_ring() {
    let sim = Sim::with(64, 1024, Some(64 * 4096));
    let store = sim
        .try_open(|o| {
            o.background = Background::Threads;
            o.busy_wait = Duration::from_secs(2);
        })
        .unwrap();
    let keys: Vec<Vec<u8>> = (0..500_u64)
        .map(|n| {
            let mut k = vec![b'k'; 1000];
            k[..8].copy_from_slice(&n.to_le_bytes());
            k
        })
        .collect();
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let start = Instant::now();
    let answers = store.remove_many(&asked);
    assert!(
        answers.iter().all(Result::is_ok),
        "{:?} after {:?}, checkpoints {}",
        answers[0],
        start.elapsed(),
        store.stats().checkpoints
    );
}

#[test]
fn t16_a_batch_of_puts_larger_than_the_ring() {
    let sim = Sim::with(512, 1024, Some(64 * 4096));
    let store = sim
        .try_open(|o| {
            o.background = Background::Threads;
            o.buffer_bytes = Some(16 << 20);
            o.busy_wait = Duration::from_secs(2);
        })
        .unwrap();
    let keys: Vec<Vec<u8>> = (0..300_u64)
        .map(|n| {
            let mut k = vec![b'k'; 1000];
            k[..8].copy_from_slice(&n.to_le_bytes());
            k
        })
        .collect();
    let puts = keys.iter().map(|k| Put::new(k, b"v")).collect();
    let answers = store.put_many(puts, PutOptions::default());
    assert!(
        answers.iter().all(Result::is_ok),
        "{:?}, checkpoints {}",
        answers[0],
        store.stats().checkpoints
    );
}

#[test]
fn t17_validation_goes_on_after_a_timeout() {
    let sim = Sim::new(64);
    let store = sim.open();
    for n in 0..40 {
        store.put(&key(n), b"v").unwrap();
    }
    store.sync().unwrap();
    let sim = sim.crash();
    let store = sim
        .try_open(|o| {
            o.io_deadline = Duration::from_millis(50);
            o.shards = Some(1);
        })
        .unwrap();
    let slots = slots_of(&store, &sim.device);
    sim.device.hold(slots);
    let answer = store.step_validate(16);
    assert!(matches!(answer, Err(Error::TimedOut { .. })), "{answer:?}");
    sim.device.release();
    let mut steps = 0;
    while store.step_validate(8).unwrap_or(true) && steps < 100 {
        steps += 1;
    }
    let hits = (0..40).filter(|n| store.contains(&key(*n))).count();
    assert_eq!(hits, 40, "{:?}", sim.watch.lines());
}

#[test]
fn t03b_putting_many_keys_does_not_poison() {
    let sim = Sim::with(9000, 1024, Some(64 << 20));
    let store = sim.try_open(|o| o.buffer_bytes = Some(160 << 20)).unwrap();
    let keys: Vec<Vec<u8>> = (0..8_000_u64)
        .map(|n| {
            let mut key = vec![b'k'; 1000];
            key[..8].copy_from_slice(&n.to_le_bytes());
            key
        })
        .collect();
    let puts = keys.iter().map(|k| Put::new(k, b"v")).collect();
    let answers = store.put_many(puts, PutOptions::default());
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers[0]);
    let synced = store.sync();
    assert!(synced.is_ok(), "{synced:?}");
}

#[test]
fn t18_a_lost_block_of_a_large_commit_is_damage() {
    let sim = Sim::with(64, 1024, Some(64 << 20));
    let store = sim.open();
    store.put(b"gone", b"gone").unwrap();
    store.sync().unwrap();
    let mut keys: Vec<Vec<u8>> = (0..3_500_u64)
        .map(|n| {
            let mut key = vec![b'k'; 1000];
            key[..8].copy_from_slice(&n.to_le_bytes());
            key
        })
        .collect();
    keys[0] = b"gone".to_vec();
    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    assert!(store.remove_many(&asked).iter().all(Result::is_ok));
    store.sync().unwrap();
    for n in 0..3 {
        store.put(&key(n), b"v").unwrap();
        store.sync().unwrap();
    }
    let log = store.superblock().log.clone();
    let sim = sim.crash();
    let at = log_block_offset(&log, 2);
    sim.device.corrupt(at + 100..at + 101);
    let store = sim.open();
    let report = store.recovery();
    assert!(
        report.lost_metadata.is_some() || store.get(b"gone").unwrap().is_none(),
        "resurrected, unreported: {report:?}"
    );
}

#[test]
fn t12b_a_late_answer_is_not_taken_for_another() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"kept", b"kept").unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    let s = store.superblock().clone();
    let sim = sim.crash();
    // A drive that stalls once for 230 ms; requests may take 200 ms.
    sim.device
        .hold(s.base_b.offset..s.base_b.offset + s.base_b.bytes);
    sim.device
        .hold(s.base_a.offset + 4096..s.base_a.offset + s.base_a.bytes);
    let device = sim.device.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        device.release();
    });
    let opened = sim.try_open(|o| {
        o.io_deadline = Duration::from_millis(200);
        o.on_lost_metadata = rb_core::OnLostMetadata::Empty;
    });
    thread.join().unwrap();
    if let Ok(store) = opened {
        let report = store.recovery().clone();
        assert!(report.lost_metadata.is_none(), "{report:?}");
        assert!(store.get(b"kept").unwrap().is_some(), "{report:?}");
    }
}

#[test]
fn t12c_a_stall_at_open_does_not_empty_the_store() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"kept", b"kept").unwrap();
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    let s = store.superblock().clone();
    let sim = sim.crash();
    sim.device
        .hold(s.base_a.offset..s.base_b.offset + s.base_b.bytes);
    let device = sim.device.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(250));
        device.release();
    });
    let opened = sim.try_open(|o| {
        o.io_deadline = Duration::from_millis(100);
        o.on_lost_metadata = rb_core::OnLostMetadata::Empty;
    });
    thread.join().unwrap();
    let first = opened.map(|store| store.recovery().lost_metadata.clone());
    let store = sim.open();
    assert!(
        store.get(b"kept").unwrap().is_some(),
        "a stall emptied the store for good: {first:?}"
    );
}

#[test]
#[ignore = "large"]
fn t19_a_large_base_loads_with_eight_workers() {
    let bed = crate::support::Bed::with(
        vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(100_000),
        }],
        |o| {
            o.key_len_max = 1024;
            o.log_bytes = Some(512 << 20);
        },
    );
    let store = bed.open_with(|o| {
        o.shards = Some(1);
        o.sync_interval = Duration::from_millis(5);
    });
    let mut state = 1;
    for _ in 0..200 {
        let keys: Vec<Vec<u8>> = (0..500)
            .map(|_| {
                let mut k = vec![0; 1024];
                rb_testkit::values::fill(rb_testkit::values::next_number(&mut state), &mut k);
                k
            })
            .collect();
        let puts = keys.iter().map(|k| Put::new(k, b"v")).collect();
        assert!(
            store
                .put_many(puts, PutOptions::default())
                .iter()
                .all(Result::is_ok)
        );
    }
    store.close().unwrap();
    drop(store);
    for _ in 0..3 {
        let store = bed.open_with(|o| o.shards = Some(1));
        let report = store.recovery();
        println!("{report:?}");
        assert!(report.lost_metadata.is_none(), "{report:?}");
        drop(store);
    }
}

#[test]
fn t20_a_slot_is_not_reused_while_a_failed_queues_write_may_land() {
    let sim = Sim::new(1);
    let store = sim.open();
    sim.device.break_queues(EIO);
    let answer = store.put(b"old", &value(1, 3000));
    assert!(answer.is_err());
    sim.device.heal();
    drop(store.remove(b"something to commit"));
    store.sync().unwrap();
    let answer = store.put(b"new", &value(2, 3000));
    println!("{answer:?} held {}", sim.device.held());
    if answer.is_err() {
        return;
    }
    store.sync().unwrap();
    sim.device.release(); // the device executes what it was given before its queue failed
    assert!(
        store.get(b"new").unwrap().is_some(),
        "a synced value was overwritten: {:?}",
        sim.watch.lines()
    );
}

#[test]
fn t21_a_put_that_is_answered_superseded_was_superseded() {
    let sim = Sim::new(4);
    let store = sim.open();
    let slots = slots_of(&store, &sim.device);
    sim.device.fail_always(OpKind::Write, slots, EIO);
    let answers = store.put_many(
        vec![Put::new(b"k", b"1"), Put::new(b"k", b"2")],
        PutOptions::default(),
    );
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
}
