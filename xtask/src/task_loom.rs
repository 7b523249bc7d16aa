//! The concurrency models of rb-index.

use crate::run::cargo_with;

/// Runs the models whose name contains `filter`.
pub(crate) fn run(filter: Option<&str>) -> Result<(), String> {
    let filter = filter.unwrap_or("loom");
    // A target folder of its own: the flag changes every crate, and rebuilding all of them twice
    // in each run would cost more than the disk.
    cargo_with(
        &[
            "test",
            "-p",
            "rb-index",
            "--release",
            "--lib",
            "--target-dir",
            "target/loom",
            filter,
            "--",
            "--nocapture",
        ],
        &[("RUSTFLAGS", "--cfg rb_loom")],
    )
}
