//! Prepares a benchmark: builds the program and the peers, and measures the cost of the checksum.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::case::Case;
use super::contender::Programs;
use super::options::{Options, Peer};
use super::program::{FOLDER, run};
use crate::run::{cargo, program_with};

/// Upper limit of the time to read more memory than a cache holds.
const CHECKSUM_SECONDS: f64 = 60.0;
const WHEEL: &str = "lmcache-rust-raw-block-io==0.5.7rc2";
/// Pulls in torch: nearly 7 GB.
const LMCACHE: [&str; 3] = ["torch==2.13.0", "lmcache[raw-block]==0.5.7rc2", WHEEL];

/// Builds and installs the programs that are missing.
pub(super) fn programs(options: &Options) -> Result<Programs, String> {
    let wanted = |peer| options.peers.has(peer);
    // Always needed: it also writes the files.
    if !runs("fio", &["--version"]) {
        let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
        program_with("apt-get", "apt-get", &["install", "-y", "fio"], &quiet)?;
    }
    let ours = match &options.rb {
        Some(rb) => rb.clone(),
        None => {
            cargo(&["build", "--release", "-q", "-p", "rb-cli"])?;
            built("rb")
        }
    };
    let foyer = wanted(Peer::Foyer).then(foyer).transpose()?;
    let wheel = || python("venv", "lmcache_rust_raw_block_io", &[WHEEL]);
    let wheel = wanted(Peer::Wheel).then(wheel).transpose()?;
    let core = || python("venv-lmcache", "torch, lmcache", &LMCACHE);
    let lmcache = options.lmcache.then(core).transpose()?;
    Ok(Programs {
        rb: ours,
        foyer,
        wheel,
        lmcache,
        fio: wanted(Peer::Fio),
    })
}

/// Measures the checksum on cold data for each value size.
pub(super) fn checksum_cold(cases: &[Case]) -> Result<Vec<Value>, String> {
    let name = "checksum_cold";
    cargo(&["build", "--release", "-q", "-p", "rb-bench", "--bin", name])?;
    let mut sizes: Vec<u64> = cases.iter().map(|case| case.value_bytes).collect();
    sizes.dedup();
    let measure = |size: u64| {
        let (output, _) = run(
            Command::new(built(name)).arg(size.to_string()),
            CHECKSUM_SECONDS,
        )?;
        serde_json::from_str(&output).map_err(|why| format!("{name}: {output:?}: {why}"))
    };
    sizes.into_iter().map(measure).collect()
}

/// Builds foyer with locked versions, so that ratios stay comparable.
fn foyer() -> Result<PathBuf, String> {
    let folder = target_folder();
    let manifest = "benches/peers/foyer/Cargo.toml";
    let mut args = vec![
        "build",
        "--release",
        "--locked",
        "-q",
        "--manifest-path",
        manifest,
    ];
    let shown = folder.to_string_lossy();
    args.extend(["--target-dir", &shown]);
    cargo(&args)?;
    Ok(built("peer-foyer"))
}

/// Returns the Python of a virtual environment of this name that has these packages and nothing else.
fn python(name: &str, modules: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let folder = format!("{FOLDER}/{name}");
    let python = Path::new(&folder).join("bin/python");
    let path = python.to_string_lossy();
    if !runs(&path, &["-c", &format!("import {modules}")]) {
        program_with("python3", "python3", &["-m", "venv", &folder], &[])?;
        let install = ["-m", "pip", "install", "-q"];
        program_with("python", &path, &[&install[..], packages].concat(), &[])?;
    }
    Ok(python)
}

fn built(name: &str) -> PathBuf {
    target_folder().join("release").join(name)
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from)
}

/// Returns whether a program exists and succeeds with these arguments.
fn runs(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
