//! The conformance suite over every engine of rb-io and over the one in memory.

use std::sync::Arc;

use rb_io::{Access, Device, Engine, EngineKind, Limit, Limits, OpenError, Queue, QueueOptions};
#[cfg(feature = "libblkio")]
use rb_testkit::StorageDaemon;
use rb_testkit::conformance::Subject;
use rb_testkit::{DriveEngine, DriveSpeed, MemDevice, MemEngine, conformance, skip};

const BYTES: u64 = conformance::CAPACITY_MIN;

fn over_file(kind: EngineKind, directory: &std::path::Path) {
    let file = tempfile::NamedTempFile::new_in(directory).expect("a temporary file");
    Device::create_file(file.path(), BYTES, true).expect("a device of a file");
    // libblkio's driver for files uses io_uring.
    let needs_ring = matches!(kind, EngineKind::IoUring | EngineKind::Libblkio);
    if needs_ring && !skip::engine_works(kind, "conformance on a file", file.path()) {
        return;
    }
    conformance::run(kind.name(), &|| {
        let device = Device::open(file.path(), Access::ReadWrite).expect("the file opens");
        rb_io::open(device, kind).expect("the engine opens").engine
    });
}

#[test]
fn posix_on_a_file() {
    over_file(EngineKind::Posix, &std::env::temp_dir());
}

#[test]
fn posix_on_shared_memory() {
    over_file(EngineKind::Posix, std::path::Path::new("/dev/shm"));
}

#[cfg(feature = "io-uring")]
#[test]
fn io_uring_on_a_file() {
    over_file(EngineKind::IoUring, &std::env::temp_dir());
}

#[cfg(feature = "io-uring")]
#[test]
fn io_uring_on_shared_memory() {
    over_file(EngineKind::IoUring, std::path::Path::new("/dev/shm"));
}

#[cfg(feature = "libblkio")]
#[test]
fn libblkio_on_a_file() {
    over_file(EngineKind::Libblkio, &std::env::temp_dir());
}

#[cfg(feature = "libblkio")]
#[test]
fn libblkio_on_shared_memory() {
    over_file(EngineKind::Libblkio, std::path::Path::new("/dev/shm"));
}

/// One virtqueue shared by all queues of the engine, with blocks of 512 and of 4096 bytes.
#[cfg(feature = "libblkio")]
#[test]
fn libblkio_over_vhost_user() {
    for block in [512, 4096] {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.as_file().set_len(BYTES).expect("a size");
        let what = "conformance over vhost-user";
        let Some(server) = StorageDaemon::serve(what, file.path(), block) else {
            return;
        };
        conformance::run(&format!("libblkio over vhost-user, {block}"), &|| {
            let device = Device::open(server.socket(), Access::ReadWrite).expect("it connects");
            assert_eq!(device.limits().block.value, block);
            let opened = rb_io::open(device, EngineKind::Auto).expect("the engine opens");
            assert_eq!(opened.engine.name(), EngineKind::Libblkio.name());
            opened.engine
        });
    }
}

/// The memory engine's device supports every fault of the suite, so no check is left out.
fn over_memory(name: &str, limits: Limits) {
    let tally = conformance::run_with_faults(name, &|| {
        let device = MemDevice::with_limits(BYTES, limits);
        Subject {
            engine: Arc::new(MemEngine::new(device.clone())),
            faults: Some(Box::new(device)),
        }
    });
    assert_eq!(tally.left_out, [""; 0]);
}

#[test]
fn memory() {
    over_memory("memory", Limits::simple(512, 1 << 20, "test"));
}

/// Limits as small and as odd as those of real drives.
#[test]
fn memory_with_small_limits() {
    let limits = Limits {
        segments_max: Some(Limit::new(3, "test")),
        boundary: Some(Limit::new(12 << 10, "test")),
        ..Limits::simple(4096, 8192, "test")
    };
    over_memory("memory, small limits", limits);
}

#[test]
fn a_drive_with_a_speed() {
    conformance::run("drive", &|| {
        Arc::new(DriveEngine::new(BYTES as usize, DriveSpeed::ssd(1)))
    });
}

/// An engine that reports a wrong capacity. A failed check printed an expression and a line, and the summary only its title.
#[derive(Debug)]
struct WrongCapacity(MemEngine);

impl Engine for WrongCapacity {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn limits(&self) -> &Limits {
        self.0.limits()
    }

    fn capacity_bytes(&self) -> u64 {
        self.0.capacity_bytes() + 1
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        self.0.queue(options)
    }
}

#[test]
#[should_panic = "limits make sense: the capacity is a multiple of the logical block"]
fn a_failed_check_names_itself_and_what_it_expected() {
    let device = || MemEngine::new(MemDevice::new(conformance::CAPACITY_MIN));
    conformance::run("wrong", &|| Arc::new(WrongCapacity(device())));
}
