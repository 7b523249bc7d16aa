//! Behaviour specific to a vhost-user server: one client at a time, shared memory, and a server
//! that hangs or exits.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rb_testkit::StorageDaemon;

use crate::{
    Access, Arena, Buffer, Completion, Device, Engine, EngineKind, IoError, Issuer, Lane,
    QueueOptions, Request,
};

const MIB: usize = 1 << 20;
const BYTES: usize = 64 * MIB;
const LONG: Duration = Duration::from_secs(20);

/// A server over an image; `None` (reported as a skip) if the program is not installed.
struct Fixture {
    image: tempfile::NamedTempFile,
    server: StorageDaemon,
}

impl Fixture {
    fn new(what: &str) -> Option<Fixture> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(BYTES as u64).unwrap();
        let server = StorageDaemon::serve(what, image.path(), 512)?;
        Some(Fixture { image, server })
    }

    fn open(&self) -> Arc<dyn Engine> {
        let device = Device::open(self.server.socket(), Access::ReadWrite).unwrap();
        crate::open(device, EngineKind::Libblkio).unwrap().engine
    }
}

fn lane(engine: &Arc<dyn Engine>, depth: u32, arenas: Vec<Arena>) -> Lane {
    let options = QueueOptions {
        depth,
        arenas,
        issuer: Issuer::Any,
        inline: true,
        linger: Duration::ZERO,
    };
    Lane::new(engine.queue(&options).unwrap(), engine.limits())
}

fn write(lane: &mut Lane, buffer: Buffer) -> Completion {
    let len = buffer.len();
    lane.run(vec![Request::write(0, buffer, 0, len)]).remove(0)
}

#[test]
fn shared_memory_is_moved_as_it_is_and_other_memory_is_copied() {
    let Some(fixture) = Fixture::new("memory of a vhost-user disk") else {
        return;
    };
    let engine = fixture.open();
    let limits = engine.limits();
    assert_eq!(limits.block.source, "libblkio request-alignment");
    assert_eq!(
        limits.discard.unwrap().bytes_max.source,
        "libblkio max-discard-len"
    );
    for (fill, arena, shared) in [
        (1, engine.arena(MIB).unwrap(), true),
        (2, Arena::allocate(MIB).unwrap(), false),
    ] {
        let mut lane = lane(&engine, 8, vec![arena.clone()]);
        let mut buffer = arena.take(MIB).unwrap();
        buffer.fill(fill);
        assert!(write(&mut lane, buffer).result.is_ok());
        let mut found = vec![0; MIB];
        fixture
            .image
            .as_file()
            .read_exact_at(&mut found, 0)
            .unwrap();
        assert!(found.iter().all(|byte| *byte == fill));
        let counters = lane.counters();
        assert_eq!(counters.fixed_parts > 0, shared, "{:?}", lane.report());
        assert_eq!(counters.unregistered_parts == 0, shared);
    }
}

/// More parts are in flight than fit in the bounce arena; they wait for its memory in order.
#[test]
fn copies_of_any_number_share_a_bounded_memory() {
    let Some(fixture) = Fixture::new("bounded copies to a vhost-user disk") else {
        return;
    };
    let engine = fixture.open();
    let mut lane = lane(&engine, 128, Vec::new());
    let arena = Arena::allocate(BYTES).unwrap();
    let each = |count| (0..count).map(|at: usize| (at, arena.take(MIB).unwrap()));
    let writes = each(BYTES / MIB).map(|(at, mut buffer)| {
        buffer.fill(at as u8);
        Request::write((at * MIB) as u64, buffer, 0, MIB)
    });
    let done = lane.run(writes.collect());
    assert!(done.iter().all(|done| done.result.is_ok()));
    drop(done);
    let reads = each(BYTES / MIB).map(|(at, mut buffer)| {
        buffer.fill(0xEE);
        Request::read((at * MIB) as u64, buffer, 0, MIB)
    });
    for done in lane.run(reads.collect()) {
        let buffer = done.buf.unwrap();
        assert!(buffer.iter().all(|byte| *byte == done.tag as u8));
    }
}

/// The server lets a second client wait without limit; connecting must not.
#[test]
fn a_second_client_is_refused_and_comes_in_when_the_first_has_gone() {
    let Some(fixture) = Fixture::new("two clients of a vhost-user disk") else {
        return;
    };
    let first = fixture.open();
    let refused = Device::open(fixture.server.socket(), Access::ReadOnly).unwrap_err();
    assert!(refused.is_in_use(), "{refused}");
    drop(first);
    drop(fixture.open());
}

#[test]
fn a_stopped_server_neither_outlasts_a_timeout_nor_loses_its_memory() {
    let Some(fixture) = Fixture::new("a vhost-user server that stops") else {
        return;
    };
    let engine = fixture.open();
    let arena = engine.arena(MIB).unwrap();
    let address = arena.as_ptr().addr();
    let mut lane = lane(&engine, 4, vec![arena.clone()]);
    fixture.server.stop();
    let buffer = arena.take(MIB).unwrap();
    lane.start(1, Request::read(0, buffer, 0, MIB));
    let start = Instant::now();
    let wait = Duration::from_millis(50);
    lane.poll(1, Some(wait), &mut Vec::new()).unwrap();
    assert!(start.elapsed() >= wait && start.elapsed() < LONG);
    drop(lane);
    drop((engine, arena));
    assert!(
        is_mapped(address),
        "the server may still write to this memory"
    );
    fixture.server.go_on();
}

#[test]
fn requests_to_a_server_that_is_gone_fail_immediately() {
    let Some(fixture) = Fixture::new("a vhost-user server that goes") else {
        return;
    };
    let engine = fixture.open();
    let mut lane = lane(&engine, 4, Vec::new());
    fixture.server.stop();
    let buffer = Arena::allocate(MIB).unwrap().take(MIB).unwrap();
    lane.start(1, Request::read(0, buffer, 0, MIB));
    let start = Instant::now();
    let mut done = Vec::new();
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(50));
            drop(fixture);
        });
        // The queue fails, and every part in it.
        let ended = lane.poll(1, Some(LONG), &mut done);
        assert!(ended.is_err(), "{done:?}");
        killer.join().unwrap();
    });
    assert!(start.elapsed() < LONG);
    let error: &IoError = done[0].result.as_ref().unwrap_err();
    assert!(error.is_device_gone(), "{error}");
}

/// Returns whether this process has a mapping that begins at `address`.
fn is_mapped(address: usize) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let start = format!("{address:x}-");
    maps.lines().any(|line| line.starts_with(&start))
}
