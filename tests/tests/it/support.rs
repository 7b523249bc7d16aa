//! Shared parts of the tests: small stores in files and in memory, deterministic values, an observer.

use std::fmt;
use std::io::{BufRead, BufReader, Lines};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rb_core::{
    Background, Change, ClassRequest, EngineKind, Event, Events, FormatOptions, HeldLock,
    OnLostMetadata, OpenError, SeededRandom, Share, Simulator, Store, StoreOptions, Superblock,
    SwitchPoint, format,
};
use rb_format::{FORMAT_BLOCK, Region};
use rb_io::{Engine, Limits};
use rb_testkit::{MemDevice, MemEngine, skip};
use tempfile::TempDir;

/// Returns the engines that work here; io_uring is recorded as skipped if the machine forbids it.
pub(crate) fn engines() -> Vec<EngineKind> {
    let mut engines = vec![EngineKind::Posix];
    engines.extend(io_uring_works("the store on io_uring").then_some(EngineKind::IoUring));
    engines
}

/// Returns whether io_uring works here; if not, records the skip.
pub(crate) fn io_uring_works(what: &str) -> bool {
    let fixture = FileFixture::new(4096, 1);
    skip::io_uring_works(what, &fixture.path())
}

pub(crate) const KIB: usize = 1024;
/// Error of a device that cannot read or write a block.
pub(crate) const EIO: i32 = 5;
/// Error of a device that has no space.
pub(crate) const ENOSPC: i32 = 28;

/// A file store in a folder that is deleted on drop.
pub(crate) struct FileFixture {
    dir: TempDir,
    pub(crate) engine: EngineKind,
}

impl FileFixture {
    /// Makes a store of `slots` slots of `slot_bytes` each.
    pub(crate) fn new(slot_bytes: u64, slots: u64) -> FileFixture {
        FileFixture::with(
            vec![ClassRequest {
                slot_bytes,
                share: Share::Slots(slots),
            }],
            |_| {},
        )
    }

    pub(crate) fn with(
        classes: Vec<ClassRequest>,
        change: impl FnOnce(&mut FormatOptions),
    ) -> FileFixture {
        let dir = tempfile::tempdir().unwrap();
        let mut options = FormatOptions::new(dir.path().join("store"), classes);
        options.sparse = true;
        change(&mut options);
        format(&options).unwrap();
        FileFixture {
            dir,
            engine: EngineKind::Posix,
        }
    }

    pub(crate) fn on(mut self, engine: EngineKind) -> FileFixture {
        self.engine = engine;
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions {
            engine: self.engine,
            buffer_bytes: Some(16 << 20),
            queue_depth: 64,
            // A scan has more to show than an empty store.
            on_lost_metadata: OnLostMetadata::Scan,
            ..StoreOptions::default()
        }
    }

    pub(crate) fn open(&self) -> Store {
        self.open_with(|_| {})
    }

    pub(crate) fn open_with(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        let mut options = self.options();
        change(&mut options);
        Store::open(self.path(), options).unwrap()
    }

    /// Returns what a crash leaves on the host: a copy of the file as it is now.
    pub(crate) fn image(&self) -> FileFixture {
        let dir = tempfile::tempdir().unwrap();
        copy_sparse(&self.path(), &dir.path().join("store"));
        FileFixture {
            dir,
            engine: self.engine,
        }
    }
}

/// A store on a device in memory that fails, stalls and crashes on request.
pub(crate) struct Sim {
    pub(crate) device: Arc<MemDevice>,
    pub(crate) watch: Arc<Watch>,
}

impl Sim {
    /// Makes a store of `slots` slots of 4 KiB.
    pub(crate) fn new(slots: u64) -> Sim {
        Sim::with(slots, 64, None)
    }

    pub(crate) fn with(slots: u64, key_len_max: u32, log_bytes: Option<u64>) -> Sim {
        let limits = Limits::simple(512, 1 << 20, "memory device");
        Sim::limited(slots, limits, key_len_max, log_bytes)
    }

    /// Makes a store on a device with these limits.
    pub(crate) fn limited(
        slots: u64,
        limits: Limits,
        key_len_max: u32,
        log_bytes: Option<u64>,
    ) -> Sim {
        let classes = vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(slots),
        }];
        let bytes = rb_format::device_bytes_for(&classes, key_len_max, 0, log_bytes).unwrap();
        let sim = Sim::on(MemDevice::with_limits(bytes, limits));
        let options = FormatOptions {
            key_len_max,
            log_bytes,
            formatted_at: 0,
            random: Arc::new(SeededRandom::new(1)),
            ..FormatOptions::new(sim.engine(), classes)
        };
        format(&options).unwrap();
        sim
    }

    /// Makes a store with a log of `blocks` blocks, so that the ring is soon full.
    pub(crate) fn with_ring(slots: u64, blocks: u64) -> Sim {
        Sim::with(slots, 1024, Some(blocks * FORMAT_BLOCK as u64))
    }

    /// Wraps a device, with any contents.
    pub(crate) fn on(device: Arc<MemDevice>) -> Sim {
        Sim {
            device,
            watch: Watch::new(),
        }
    }

    /// Returns the worst outcome of a crash: only what was flushed.
    pub(crate) fn crash(&self) -> Sim {
        Sim::on(self.device.crash())
    }

    /// Returns another outcome of a crash: in addition, some of what was not flushed, as `seed` decides.
    pub(crate) fn crash_seeded(&self, seed: u64) -> Sim {
        Sim::on(MemDevice::from_image(&self.device.crash_image_seeded(seed)))
    }

    pub(crate) fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(MemEngine::new(Arc::clone(&self.device)))
    }

    pub(crate) fn open(&self) -> Store {
        self.open_with(|_| {})
    }

    pub(crate) fn open_with(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        self.try_open(change).unwrap()
    }

    /// Background work is run by the test, unless it changes that.
    pub(crate) fn try_open(
        &self,
        change: impl FnOnce(&mut StoreOptions),
    ) -> Result<Store, OpenError> {
        let mut options = StoreOptions {
            background: Background::Manual,
            buffer_bytes: Some(1 << 20),
            events: Some(self.watch.clone()),
            // A scan has more to show than an empty store.
            on_lost_metadata: OnLostMetadata::Scan,
            // A different seed at each opening of a device, and the same in each run of a test.
            random: Arc::new(SeededRandom::new(self.device.log().len() as u64)),
            ..StoreOptions::default()
        };
        change(&mut options);
        Store::open(self.engine(), options)
    }

    /// Damages the first section of a base; its header stays whole.
    pub(crate) fn corrupt_section(&self, base: &Region) {
        let at = base.offset + FORMAT_BLOCK as u64 + 64;
        self.device.corrupt(at..at + 1);
    }

    /// Damages a log block in both rings.
    pub(crate) fn corrupt_log(&self, superblock: &Superblock, sequence: u64) {
        for at in superblock.log_block_offsets(sequence) {
            self.device.corrupt(at + 100..at + 101);
        }
    }

    /// Waits until the device holds this many requests.
    pub(crate) fn wait_for_held(&self, count: usize) {
        while self.device.held() < count {
            std::thread::yield_now();
        }
    }
}

/// Returns the offsets of the headers of all bases.
pub(crate) fn base_headers(superblock: &Superblock) -> impl Iterator<Item = u64> {
    let places = superblock.bases().map(rb_format::base_header_offsets);
    places.into_iter().flatten()
}

/// Returns the range of all slots.
pub(crate) fn slots_of(store: &Store) -> Range<u64> {
    store.geometry().slot_offset(0).unwrap()..store.superblock().log_2.offset
}

pub(crate) fn range_of(region: &Region) -> Range<u64> {
    region.offset..region.offset + region.bytes
}

/// Returns whether the condition holds within 20 seconds.
pub(crate) fn in_time(holds: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !holds() && start.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    holds()
}

/// Runs `work` in a thread; returns false if it has not ended in time.
pub(crate) fn ends_within(time: Duration, work: impl FnOnce() + Send + 'static) -> bool {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = sender.send(());
    });
    receiver.recv_timeout(time).is_ok()
}

/// Returns keys of 1000 bytes, of which a log block takes three.
pub(crate) fn long_keys(numbers: Range<u64>) -> Vec<Vec<u8>> {
    numbers
        .map(|n| [&n.to_le_bytes()[..], &[b'k'; 992]].concat())
        .collect()
}

pub(crate) fn slices(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}

fn copy_sparse(from: &Path, to: &Path) {
    let done = Command::new("cp")
        .args(["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()])
        .status()
        .unwrap();
    assert!(done.success());
}

/// Flips bits of a store that is not open.
pub(crate) fn corrupt(fixture: &FileFixture, offset: u64, len: usize) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(fixture.path())
        .unwrap();
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    file.write_all_at(&bytes, offset).unwrap();
}

/// Zeroes a range of a store that is not open.
pub(crate) fn zero(fixture: &FileFixture, offset: u64, len: usize) {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(fixture.path())
        .unwrap();
    file.write_all_at(&vec![0; len], offset).unwrap();
}

/// Returns a value of `len` bytes that is a function of `seed`.
pub(crate) fn value(seed: u64, len: usize) -> Vec<u8> {
    rb_testkit::values::bytes(seed, len)
}

/// Returns whether key `n` is there, with its value of 3,000 bytes.
pub(crate) fn holds(store: &Store, n: u64) -> bool {
    match store.get(&key(n)).unwrap() {
        None => false,
        Some(found) => {
            assert!(*found == *value(n, 3000), "key {n}");
            true
        }
    }
}

pub(crate) fn key(n: u64) -> Vec<u8> {
    format!("key-{n}").into_bytes()
}

/// Records events as lines.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Vec<String>>);

impl Watch {
    pub(crate) fn new() -> Arc<Watch> {
        Arc::default()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Returns the lines since the last call.
    pub(crate) fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.starts_with(start))
            .count()
    }
}

impl Events for Watch {
    fn event(&self, event: &Event<'_>) {
        let line = match event {
            Event::Evicted { key, .. } => format!("evicted {}", String::from_utf8_lossy(key)),
            Event::Dropped { key, reason, .. } => {
                format!("dropped {} {reason:?}", String::from_utf8_lossy(key))
            }
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}

/// Returns the resident memory of this process in KiB.
pub(crate) fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let resident = line.unwrap().split_whitespace().nth(1);
    resident.unwrap().parse().unwrap()
}

/// Returns whether the variable `RB_LONG` is set: then tests run in full, otherwise only a part of them.
pub(crate) fn is_long() -> bool {
    std::env::var_os("RB_LONG").is_some()
}

/// Runs one test of this program alone, in a separate process that serves a store until its input ends. Returns when it
/// has printed that it has begun, with the lines that follow.
pub(crate) fn serve<const N: usize>(
    test: &str,
    envs: [(&str, String); N],
) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs(envs)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let begun = lines.any(|line| line.unwrap().ends_with("begun"));
    assert!(begun, "{test} has not begun");
    (child, lines)
}

pub(crate) type Act = Box<dyn FnOnce() + Send>;

/// Acts once, when an operation reaches a switch point.
pub(crate) struct ActsAt {
    point: SwitchPoint,
    act: Mutex<Option<Act>>,
}

impl ActsAt {
    pub(crate) fn new(point: SwitchPoint) -> Arc<ActsAt> {
        let act = Mutex::new(None);
        Arc::new(ActsAt { point, act })
    }

    pub(crate) fn set(&self, act: impl FnOnce() + Send + 'static) {
        *self.act.lock().unwrap() = Some(Box::new(act));
    }

    pub(crate) fn has_acted(&self) -> bool {
        self.act.lock().unwrap().is_none()
    }
}

impl fmt::Debug for ActsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActsAt({:?})", self.point)
    }
}

impl Simulator for ActsAt {
    fn switch(&self, point: SwitchPoint) {
        if point == self.point {
            let act = self.act.lock().unwrap().take();
            act.into_iter().for_each(|act| act());
        }
    }

    fn blocked(&self, _: HeldLock) {}

    fn changed(&self, _: &Change<'_>) {}
}

/// An observer that acts once, when it is notified of an eviction.
pub(crate) struct AtEviction(Mutex<Option<Act>>);

impl AtEviction {
    pub(crate) fn new() -> Arc<AtEviction> {
        Arc::new(AtEviction(Mutex::new(None)))
    }

    pub(crate) fn set(&self, act: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap() = Some(Box::new(act));
    }
}

impl fmt::Debug for AtEviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtEviction")
    }
}

impl Events for AtEviction {
    fn event(&self, event: &Event<'_>) {
        if matches!(event, Event::Evicted { .. }) {
            let act = self.0.lock().unwrap().take();
            act.into_iter().for_each(|act| act());
        }
    }
}
