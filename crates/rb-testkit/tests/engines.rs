//! The conformance suite over every engine of rb-io and over the one in memory.

use std::sync::Arc;

use rb_io::{Access, Device, Engine, EngineKind, Limit, Limits};
use rb_testkit::{MemDevice, MemEngine, conformance, skip};

const BYTES: u64 = conformance::CAPACITY_MIN;

fn over_file(kind: EngineKind, directory: &std::path::Path) {
    let file = tempfile::NamedTempFile::new_in(directory).expect("a temporary file");
    Device::create_file(file.path(), BYTES, true).expect("a device of a file");
    if kind == EngineKind::IoUring && !skip::io_uring_works("conformance on a file", file.path()) {
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

#[test]
fn memory() {
    conformance::run("memory", &|| {
        Arc::new(MemEngine::new(MemDevice::new(BYTES)))
    });
}

/// Limits as small and as odd as drives have them.
#[test]
fn memory_with_small_limits() {
    let limits = Limits {
        segments_max: Some(Limit::new(3, "test")),
        boundary: Some(Limit::new(12 << 10, "test")),
        ..Limits::simple(4096, 8192, "test")
    };
    conformance::run("memory, small limits", &|| -> Arc<dyn Engine> {
        Arc::new(MemEngine::new(MemDevice::with_limits(BYTES, limits)))
    });
}
