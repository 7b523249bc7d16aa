//! A caller may drop what it holds while requests that cannot end are in flight: the operation, buffers, values, the
//! store itself. What the kernel still writes hits nothing else, on the engines of the real kernel and on the one in
//! memory.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rb_core::{
    Arena, ClassRequest, EngineKind, Error, FormatOptions, Share, Store, StoreOptions, ValueBuf,
    format,
};
use rb_testkit::{StallingFile, skip};

use crate::support::{KIB, Sim, ends_within, in_time, io_uring_works, key, slots_of, value};

const WATCHDOG: Duration = Duration::from_secs(20);
const LEN: usize = 60 * KIB;
const SLOTS: u64 = 4;
const DEPTH: u32 = 8;

/// Does nothing unless started by the test below.
#[test]
fn serve_a_stalling_file() {
    StallingFile::serve();
}

fn options(engine: EngineKind) -> StoreOptions {
    StoreOptions {
        engine,
        buffer_bytes: Some(512 * KIB),
        queue_depth: DEPTH,
        busy_wait: Duration::from_millis(20),
        io_deadline: Duration::from_millis(150),
        direct_min: 1,
        // Only the test reads or writes while the file stalls.
        sync_interval: Duration::from_hours(1),
        ..StoreOptions::default()
    }
}

pub(crate) fn formatted(file: &Path) {
    formatted_with(file, SLOTS);
}

fn formatted_with(file: &Path, slots: u64) {
    let class = ClassRequest {
        slot_bytes: 64 * KIB as u64,
        share: Share::Slots(slots),
    };
    let mut options = FormatOptions::new(file, vec![class]);
    options.key_len_max = 32;
    options.consent = true;
    options.sparse = true;
    format(&options).unwrap();
}

/// Takes all remaining buffers and fills them.
fn canaries(store: &Store) -> Vec<ValueBuf> {
    let mut taken = Vec::new();
    while let Ok(mut buffer) = store.buffer(4 * KIB) {
        buffer.fill(0x3C);
        taken.push(buffer);
    }
    taken
}

/// Runs `test` with a store over a file that stalls, on each engine.
fn on_a_stalling_file(what: &str, test: impl Fn(&StallingFile, Store, EngineKind)) {
    with_slots(what, (SLOTS, DEPTH), test);
}

fn with_slots(
    what: &str,
    (slots, queue_depth): (u64, u32),
    test: impl Fn(&StallingFile, Store, EngineKind),
) {
    for engine in [EngineKind::Posix, EngineKind::IoUring] {
        if engine == EngineKind::IoUring && !io_uring_works(what) {
            continue;
        }
        let file = match StallingFile::new("stalled::serve_a_stalling_file", 16 << 20) {
            Ok(file) => file,
            Err(why) => return skip::note(what, &format!("no file system of our own: {why}")),
        };
        formatted_with(file.path(), slots);
        let options = StoreOptions {
            queue_depth,
            ..options(engine)
        };
        let store = Store::open(file.path(), options).unwrap();
        test(&file, store, engine);
    }
}

#[test]
fn a_request_that_hangs_keeps_its_memory_after_drops() {
    on_a_stalling_file("a store over a file that stalls", |file, store, engine| {
        for n in 0..2 {
            store.put(&key(n), &value(n, LEN)).unwrap();
        }
        store.sync().unwrap();
        let held = store.get(&key(1)).unwrap().unwrap();
        drops_in_flight(file, store, engine);
        assert!(
            held == value(1, LEN)[..],
            "{engine}: a value was overwritten"
        );
        drop(held);
        let store = Store::open(file.path(), options(engine)).unwrap();
        store.audit().unwrap();
        for n in 0..2 {
            let got = store.get(&key(n)).unwrap();
            assert!(got.unwrap() == value(n, LEN)[..], "{engine}: key {n}");
        }
    });
}

/// One read that is not awaited, two that are late; then the store is dropped, before they end.
///
/// The driver of async operations used to enter the kernel with a single read of the posix engine itself: neither the
/// deadline nor the next operation could reach it there, and the drop hung.
fn drops_in_flight(file: &StallingFile, store: Store, engine: EngineKind) {
    file.hold().unwrap();
    drop(store.get_many_async(&[&key(0)]));
    assert!(file.wait_for_held(1, WATCHDOG), "{engine}");
    let late = store.get_many(&[&key(0), &key(1)]).remove(1);
    assert!(
        matches!(late, Err(Error::TimedOut { .. })),
        "{engine}: {late:?}"
    );
    assert_eq!(file.held(), 3, "{engine}");
    let canaries = canaries(&store);
    assert!(!canaries.is_empty());
    assert!(
        ends_within(WATCHDOG, move || drop(store)),
        "{engine}: the drop hangs"
    );
    assert!(file.held() >= 3, "{engine}: the requests have not ended");
    file.release().unwrap();
    // The lock becomes free once these requests have ended.
    wait_until_free(file, engine).unwrap();
    let whole = |buffer: &ValueBuf| buffer.iter().all(|byte| *byte == 0x3C);
    assert!(
        canaries.iter().all(whole),
        "{engine}: a late read hit another buffer"
    );
}

/// The last of the requests closes the file, and so releases the lock on it.
fn wait_until_free(file: &StallingFile, engine: EngineKind) -> io::Result<()> {
    let start = std::time::Instant::now();
    loop {
        match Store::open(file.path(), options(engine)) {
            Ok(_) => return Ok(()),
            Err(why) if start.elapsed() > WATCHDOG => return Err(io::Error::other(why)),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// On the posix engine the caller's thread entered the kernel with a lone write of metadata, where no deadline reached
/// it: behind a commit that hung, closing and dropping the store hung too.
#[test]
fn a_commit_that_hangs_does_not_keep_the_store_from_closing() {
    on_a_stalling_file("a commit to a file that stalls", |file, store, engine| {
        store.put(&key(0), &value(0, LEN)).unwrap();
        file.hold().unwrap();
        let (syncing, closing) = (store.clone(), store);
        let sync = std::thread::spawn(move || syncing.sync());
        assert!(file.wait_for_held(1, WATCHDOG), "{engine}");
        let ended = ends_within(WATCHDOG, move || {
            assert!(closing.close().is_err());
            drop(closing);
            assert!(sync.join().unwrap().is_err());
        });
        assert!(ended, "{engine}: closing hangs");
        file.release().unwrap();
        wait_until_free(file, engine).unwrap();
    });
}

/// The same with a write, whose buffer belongs to the caller until it is put.
#[test]
fn a_dropped_put_keeps_its_buffer_until_it_ends() {
    let sim = Sim::new(SLOTS);
    let store = sim.open_with(|options| {
        options.background = rb_core::Background::Threads;
        options.io_deadline = Duration::from_millis(50);
        options.busy_wait = Duration::from_millis(20);
    });
    sim.device.hold(slots_of(&store));
    let free = canaries(&store).len();
    let mut buffer = store.buffer(3000).unwrap();
    buffer.copy_from_slice(&value(7, 3000));
    let put = rb_core::Put {
        payload: rb_core::Payload::Buffer(buffer),
        ..rb_core::Put::new(b"k", b"")
    };
    drop(store.put_many_async(vec![put], rb_core::PutOptions::default()));
    sim.wait_for_held(1);
    let taken = canaries(&store);
    assert!(taken.len() < free, "the write still needs its buffer");
    let device = Arc::clone(&sim.device);
    assert!(ends_within(WATCHDOG, move || drop(store)));
    assert_eq!(device.held(), 1);
    device.release();
    let image = device.live_image();
    let wanted = value(7, 3000);
    assert!(
        image
            .windows(3000)
            .step_by(512)
            .any(|bytes| bytes == wanted),
        "the late write took other bytes along"
    );
    drop(taken);
}

/// A late batch went on to send its requests to the device, into memory of a caller that had its answer long ago. Now it
/// keeps the memory of those that the device has, and gives the rest back at its deadline.
#[test]
fn a_late_batch_sends_nothing_more() {
    let what = "a late batch over a file that stalls";
    with_slots(what, (40, DEPTH), |file, store, engine| {
        sends_nothing_more(file, &store, &engine.to_string(), DEPTH as usize);
    });
}

/// The same where the queue takes the whole batch: of the posix engine, whose threads take sixteen of its requests. io_uring
/// would enter the kernel with all of them, and FUSE keeps the caller there.
#[test]
fn a_late_batch_in_a_deep_queue_sends_nothing_more() {
    let what = "a late batch in a deep queue over a file that stalls";
    with_slots(what, (64, 64), |file, store, engine| {
        if engine == EngineKind::Posix {
            sends_nothing_more(file, &store, "a deep queue", 16);
        }
    });
}

fn sends_nothing_more(file: &StallingFile, store: &Store, words: &str, sent_max: usize) {
    let count = store.geometry().slots() as usize;
    let keys: Vec<_> = (0..count as u64).map(key).collect();
    for (n, key) in keys.iter().enumerate() {
        store.put(key, &value(n as u64, LEN)).unwrap();
    }
    store.sync().unwrap();
    let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
    for (is_async, direct) in [(false, false), (false, true), (true, false), (true, true)] {
        let case = format!("{words}, async {is_async}, direct {direct}");
        let arena = Arena::allocate(count * 64 * KIB).unwrap();
        // Memory that does not begin on a block gets a copy.
        let begin = if direct { 0 } else { 8 };
        let lend = |at| arena.lend_exclusive(at * 64 * KIB + begin, LEN).unwrap();
        let loans = || (0..count).map(lend).collect();
        file.hold().unwrap();
        let late = match is_async {
            true => store.get_many_at_async(&keys, loans()).wait(),
            false => store.get_many_at(&keys, loans()),
        };
        let is_late = |late: &_| matches!(late, Err(Error::TimedOut { .. }));
        assert!(late.iter().all(is_late), "{case}: {late:?}");
        let lent = || (arena.bytes() - arena.available()) / LEN;
        let kept = if direct { 1..=sent_max } else { 0..=0 };
        let gives_back = in_time(|| kept.contains(&lent()));
        assert!(gives_back, "{case}: {} values are lent", lent());
        file.release().unwrap();
        assert!(in_time(|| lent() == 0), "{case}");
        let has_landed = |&at: &usize| {
            let mut bytes = vec![0; LEN];
            lend(at).copy_to(0, &mut bytes);
            bytes == value(at as u64, LEN)
        };
        let landed = (0..count).filter(has_landed).count();
        assert!(landed <= *kept.end(), "{case}: {landed} values landed");
        let found = store.get_many_at(&keys, loans());
        assert!(found.iter().all(|found| matches!(found, Ok(Some(_)))));
    }
    store.audit().unwrap();
}
