// UNSAFETY: adopting memory is unsafe, and these tests check how long it is kept.
#![expect(unsafe_code, reason = "Arena::adopt")]
//! Memory that the kernel may write is kept, no matter what is dropped while a request is in
//! flight.
//!
//! The requests are reads that cannot complete on their own: they read a file whose server does not
//! respond. The memory is adopted, so that its owner records when it is released.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rb_testkit::{StallingFile, skip};

use crate::{
    Access, Arena, Completion, Device, Engine, EngineKind, IoError, Issuer, Lane, QueueOptions,
    Request,
};

const UNIT: usize = 64 << 10;
const WATCHDOG: Duration = Duration::from_secs(20);
const SERVER: &str = "in_flight_tests::serve_a_stalling_file";
/// The bytes in the file, and the bytes in memory on both sides of the range that is read into.
const STORED: u8 = 0xA5;
const CANARY: u8 = 0x3C;

/// Lends the middle of its memory and records when it is dropped.
struct Owner(
    #[expect(dead_code, reason = "keeps the memory")] Arena,
    Arc<AtomicBool>,
);

impl Drop for Owner {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
    }
}

/// A file, an engine over it, and memory to read it into.
struct Fixture {
    file: StallingFile,
    engine: Arc<dyn Engine>,
    lender: Arena,
    released: Arc<AtomicBool>,
}

impl Fixture {
    /// Returns one fixture per engine; an engine that the machine does not support is reported as a
    /// skip.
    fn all(what: &str) -> Vec<Fixture> {
        let kinds = [EngineKind::Posix, EngineKind::IoUring];
        kinds
            .into_iter()
            .filter_map(|kind| Fixture::new(what, kind))
            .collect()
    }

    fn new(what: &str, kind: EngineKind) -> Option<Fixture> {
        let file = match StallingFile::new(SERVER, 1 << 20) {
            Ok(file) => file,
            Err(why) => {
                skip::note(what, &format!("no file system of our own: {why}"));
                return None;
            }
        };
        let plain = File::options().write(true).open(file.path());
        let written = plain.and_then(|file| file.write_all_at(&[STORED; UNIT], 0));
        written.expect("the file takes bytes");
        let device = Device::open(file.path(), Access::ReadWrite).expect("the file opens");
        let engine = match crate::open(device, kind) {
            Ok(opened) => opened.engine,
            Err(why) => {
                skip::note(what, &format!("{kind} does not work here: {why}"));
                return None;
            }
        };
        Some(Fixture {
            file,
            engine,
            lender: Arena::allocate(3 * UNIT).expect("memory"),
            released: Arc::default(),
        })
    }

    /// Adopts the middle of the lender's memory.
    fn adopted(&self) -> Arena {
        let start = NonNull::new(self.lender.as_ptr().wrapping_add(UNIT)).expect("an address");
        let owner = Owner(self.lender.clone(), Arc::clone(&self.released));
        // SAFETY: the owner keeps the mapping alive, and no range of it is taken from the lender
        // before the owner is gone or the request has completed.
        unsafe { Arena::adopt(start, UNIT, Box::new(owner)) }.expect("it lies on pages")
    }

    /// Returns a lane with one read in flight that does not complete, and with nothing else that
    /// keeps its memory.
    fn stuck(&self, registered: bool, issuer: Issuer) -> Lane {
        let arena = self.adopted();
        let options = QueueOptions {
            depth: 4,
            arenas: if registered {
                vec![arena.clone()]
            } else {
                Vec::new()
            },
            issuer,
            inline: issuer == Issuer::Any,
            linger: Duration::ZERO,
        };
        let queue = self.engine.queue(&options).expect("the queue opens");
        let mut lane = Lane::new(queue, self.engine.limits());
        self.file.hold().expect("it obeys");
        let buffer = arena.take(UNIT).expect("room");
        lane.start(1, Request::read(0, buffer, 0, UNIT));
        lane.poll(0, None, &mut Vec::new()).expect("it works");
        assert!(self.file.wait_for_held(1, WATCHDOG), "nothing is in flight");
        lane
    }

    fn is_kept(&self) -> bool {
        !self.released.load(Ordering::SeqCst)
    }

    /// Lets the request complete, and checks that its bytes land in the right place and nowhere
    /// else.
    fn release(&self) {
        let canaries = [0, 2 * UNIT].map(|offset| {
            let mut canary = self.lender.take_at(offset, UNIT).expect("not taken");
            canary.fill(CANARY);
            canary
        });
        self.file.release().expect("it obeys");
        let landed = || {
            let read = self.lender.take_at(UNIT, UNIT).expect("not taken");
            read.iter().all(|byte| *byte == STORED)
        };
        assert!(in_time(landed), "the read did not end in its memory");
        for canary in canaries {
            assert!(
                canary.iter().all(|byte| *byte == CANARY),
                "a neighbour was hit"
            );
        }
    }
}

/// Returns whether the condition holds before the watchdog expires.
fn in_time(holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !holds() {
        if start.elapsed() > WATCHDOG {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Does nothing unless started by the tests below.
#[test]
fn serve_a_stalling_file() {
    StallingFile::serve();
}

/// The queue gives up waiting (soon, in tests), and everything that a caller can hold is dropped.
#[test]
fn memory_outlives_lane_arena_and_engine() {
    for registered in [false, true] {
        for mut fixture in Fixture::all("memory outlives lane, arena and engine") {
            let lane = fixture.stuck(registered, Issuer::Any);
            let name = fixture.engine.name();
            drop(lane);
            fixture.engine = Arc::new(crate::PosixEngine::new(spare_device()));
            assert_eq!(fixture.file.held(), 1, "{name}: the request has not ended");
            assert!(fixture.is_kept(), "{name}: the kernel may still write");
            fixture.release();
            if name == "posix" {
                assert!(
                    in_time(|| !fixture.is_kept()),
                    "posix: nothing needs it any more"
                );
            } else {
                // Nothing is left to fetch the completion, so the ring keeps it forever.
                assert!(fixture.is_kept(), "{name}");
            }
        }
    }
}

/// A dropped queue waits for its requests and releases the memory after them.
#[test]
fn a_dropped_lane_waits_for_its_requests() {
    for registered in [false, true] {
        for fixture in Fixture::all("a dropped lane waits for its requests") {
            let lane = fixture.stuck(registered, Issuer::Any);
            std::thread::scope(|scope| {
                let dropping = scope.spawn(|| drop(lane));
                std::thread::sleep(Duration::from_millis(20));
                assert!(!dropping.is_finished() && fixture.is_kept());
                fixture.release();
            });
            assert!(in_time(|| !fixture.is_kept()), "{}", fixture.engine.name());
        }
    }
}

/// A probe waited half a minute for a queue that it dropped, or forever if a plain read hung.
#[test]
fn a_probe_of_a_device_that_hangs_ends() {
    if let Some(fixture) = Fixture::new("a probe of a device that hangs", EngineKind::Posix) {
        fixture.file.hold().expect("it obeys");
        let start = Instant::now();
        let refused = crate::probe::probe_within(fixture.file.path(), Duration::from_millis(100));
        let refused = refused.expect_err("nothing answers");
        let words = std::error::Error::source(&refused).expect("a reason");
        assert_eq!(words.to_string(), "no answer from the device within 100ms");
        assert!(start.elapsed() < WATCHDOG / 2);
        fixture.file.release().expect("it obeys");
    }
}

/// Another thread cannot wait for a single-thread ring: the ring keeps the memory, and the drop
/// returns immediately.
#[test]
fn memory_outlives_a_ring_that_another_thread_drops() {
    const WHAT: &str = "memory outlives a ring that another thread drops";
    let Some(fixture) = Fixture::new(WHAT, EngineKind::IoUring) else {
        return;
    };
    let (done, until_done) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel();
        let fixture = &fixture;
        scope.spawn(move || {
            send.send(fixture.stuck(true, Issuer::OneThread))
                .expect("it is received");
            // Wait here: the kernel cancels the requests of a thread that exits, and this test is
            // not about that.
            let _ended = until_done.recv_timeout(WATCHDOG);
        });
        let lane = receive.recv_timeout(WATCHDOG).expect("a lane");
        drop(lane);
        assert!(fixture.is_kept());
        fixture.release();
        drop(done);
    });
}

/// A lingering queue returns when its time is over and there is one completion, and reacts to a
/// wake, however many parts hang.
#[test]
fn a_lingering_wait_ends_although_other_parts_hang() {
    const WHAT: &str = "a lingering wait ends although other parts hang";
    if let Some(fixture) = Fixture::new(WHAT, EngineKind::IoUring) {
        let options = QueueOptions {
            depth: 64,
            arenas: Vec::new(),
            issuer: Issuer::OneThread,
            inline: false,
            linger: Duration::from_millis(20),
        };
        let queue = fixture.engine.queue(&options).expect("the queue opens");
        let mut lane = Lane::new(queue, fixture.engine.limits());
        let waker = lane.waker();
        fixture.file.hold_transfers().expect("it obeys");
        // The kernel sends at most twelve to a FUSE server.
        let arena = Arena::allocate(10 * 4096).expect("memory");
        for tag in 0..10 {
            let buffer = arena.take(4096).expect("room");
            lane.start(tag, Request::read(tag * 4096, buffer, 0, 4096));
        }
        lane.start(10, Request::flush());
        let mut done = Vec::new();
        let start = Instant::now();
        lane.poll(1, Some(WATCHDOG), &mut done).expect("it works");
        assert_eq!(done.first().map(|done| done.tag), Some(10));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                waker.wake();
            });
            lane.poll(1, Some(WATCHDOG), &mut done).expect("it works");
        });
        assert_eq!(done.len(), 1, "a read has ended");
        assert!(start.elapsed() < WATCHDOG / 2, "it was the timeout");
        fixture.file.release().expect("it obeys");
        lane.poll(10, Some(WATCHDOG), &mut done).expect("it works");
        assert_eq!(done.len(), 11);
    }
}

/// Returns a device unrelated to the one under test.
fn spare_device() -> Arc<Device> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    Arc::new(Device::create_file(file.path(), 1 << 20, false).expect("a device"))
}

/// Requests that are given up end at once as far as they wait in the kernel for a thread. Those that the server has end when
/// it answers.
#[test]
fn what_waits_in_the_kernel_is_cancelled() {
    const WHAT: &str = "what waits in the kernel is cancelled";
    // A flush keeps a thread of the kernel until it is answered, and a ring has four for each core.
    const COUNT: u64 = 1000;
    if let Some(fixture) = Fixture::new(WHAT, EngineKind::IoUring) {
        let options = QueueOptions {
            depth: COUNT as u32,
            ..QueueOptions::default()
        };
        let queue = fixture.engine.queue(&options).expect("the queue opens");
        let mut lane = Lane::new(queue, fixture.engine.limits());
        fixture.file.hold().expect("it obeys");
        (0..COUNT).for_each(|tag| lane.start(tag, Request::flush()));
        let mut done = Vec::new();
        let moment = Duration::from_millis(50);
        lane.poll(1, Some(moment), &mut done).expect("it works");
        assert!(fixture.file.wait_for_held(1, WATCHDOG));
        assert!(done.is_empty(), "nothing answers");
        lane.give_up(|tag| tag != 7);
        let mut before = usize::MAX;
        while before != done.len() {
            before = done.len();
            lane.poll(1, Some(moment), &mut done).expect("it works");
        }
        assert!(!done.is_empty(), "nothing was cancelled");
        let is_given_up = |done: &Completion| {
            let error = done.result.as_ref().err();
            error.is_some_and(IoError::is_given_up)
        };
        assert!(done.iter().all(is_given_up), "{done:?}");
        assert!(done.iter().all(|done| done.tag != 7), "it goes on");
        let held = fixture.file.held();
        assert!(held >= 1, "what the server has cannot be cancelled");
        fixture.file.release().expect("it obeys");
        while lane.unfinished() > 0 {
            lane.poll(1, Some(WATCHDOG), &mut done).expect("it works");
        }
        assert_eq!(done.len(), COUNT as usize);
        let ended = done.iter().filter(|done| done.result.is_ok());
        assert!(ended.count() >= held, "what was answered was done");
        let seven = done.iter().find(|done| done.tag == 7).expect("it ended");
        assert!(seven.result.is_ok(), "it was not given up");
    }
}
