//! Runs under Miri what it supports: the memory of buffers and arenas, the index, the lane, and a whole small store.

use std::process::{Command, Stdio};

use crate::run::program_with;

/// Cargo's arguments, and the tests to skip: they need the kernel, or have no unsafe code and take minutes.
/// `docs/testing.md` has the details.
const RUNS: [(&str, &[&str]); 5] = [
    (
        "-p rb-io --no-default-features --lib",
        &["in_flight", "device::", "signature::", "split::", "free::"],
    ),
    (
        "-p rb-testkit --no-default-features --test lane",
        &["a_flush_covers"],
    ),
    ("-p rb-core --no-default-features --test small_store", &[]),
    (
        "-p rb-index --lib",
        &[
            "free_list::",
            "memory::",
            "key_store::",
            "table::",
            "a_snapshot_shows",
        ],
    ),
    (
        "-p rb-format --no-default-features --lib",
        &["base::", "damage::", "round_trips::"],
    ),
];

/// Runs everything. `MIRIFLAGS` of the caller are added, such as `-Zmiri-tree-borrows`.
///
/// # Errors
/// If Miri is not installed, or something fails under it.
pub(crate) fn run() -> Result<(), String> {
    let version = Command::new("rustup")
        .args(["run", "nightly", "cargo", "miri", "--version"])
        .stderr(Stdio::null())
        .output();
    if !version.is_ok_and(|output| output.status.success()) {
        let how = "rustup toolchain install nightly --component miri,rust-src";
        return Err(format!("Miri is not installed; to install it: {how}"));
    }
    // Clocks and files of the host; no warnings about addresses that locks of other crates keep as
    // integers.
    let flags = format!(
        "-Zmiri-disable-isolation -Zmiri-permissive-provenance {}",
        std::env::var("MIRIFLAGS").unwrap_or_default()
    );
    for (what, left_out) in RUNS {
        let mut args = vec!["run", "nightly", "cargo", "miri", "test"];
        args.extend(what.split(' '));
        args.push("--");
        args.extend(left_out.iter().flat_map(|name| ["--skip", name]));
        program_with("rustup", "rustup", &args, &[("MIRIFLAGS", flags.as_str())])?;
    }
    Ok(())
}
