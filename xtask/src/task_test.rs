//! Everything that needs no special device.

use crate::run::{LIBRARIES, cargo, cargo_with};
use crate::{task_loom, task_package, task_tidy};

/// Cheap checks first, so that a slip shows within seconds.
pub(crate) fn run() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    task_tidy::run()?;
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])?;
    cargo(&["test", "--workspace"])?;
    for library in LIBRARIES {
        // Alone and without default features: what another project may pick.
        cargo(&["test", "-p", library, "--no-default-features", "--quiet"])?;
    }
    cargo_with(
        &["doc", "--workspace", "--no-deps", "--quiet"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    task_loom::run(None)?;
    task_package::run()
}
