//! Reports tests that a machine cannot run.
//!
//! The output of a passing test is not shown, so a skip is also written to the file named by the
//! environment variable `RB_SKIPS`; `cargo xtask test` prints its lines at the end.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use rb_io::{Access, Device, EngineKind};

/// Reports that a test was skipped, and why.
pub fn note(what: &str, why: &str) {
    eprintln!("skipped: {what}: {why}");
    if let Some(path) = std::env::var_os("RB_SKIPS") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        // Without the file, only the line above remains.
        drop(file.and_then(|mut file| writeln!(file, "{what}: {why}")));
    }
}

/// Returns whether io_uring works over this file or device; if not, reports the skip.
///
/// For tests of io_uring itself, on machines that forbid it (as the default profile of common
/// container runtimes does).
#[must_use]
pub fn io_uring_works(what: &str, path: &Path) -> bool {
    engine_works(EngineKind::IoUring, what, path)
}

/// Returns whether an engine works over this file or device; if not, reports the skip.
#[must_use]
pub fn engine_works(kind: EngineKind, what: &str, path: &Path) -> bool {
    let opened = Device::open(path, Access::ReadOnly).and_then(|device| rb_io::open(device, kind));
    match opened {
        Ok(_) => true,
        Err(why) => {
            note(what, &format!("{kind} does not work here: {why}"));
            false
        }
    }
}
