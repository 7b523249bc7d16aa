//! Draws a flame graph of `rb bench`.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::run::{cargo, cargo_with, program_with};

const FOLDER: &str = "target/profile";

/// Runs `rb bench` with `args` under perf and draws its samples.
///
/// # Errors
/// If perf is missing or not permitted, or the bench fails.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    // With frame pointers, perf can walk stacks without copying them.
    let env = [
        ("RUSTFLAGS", "-Cforce-frame-pointers=yes"),
        ("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only"),
    ];
    let build = ["build", "--release", "-p", "rb-cli", "--target-dir", FOLDER];
    cargo_with(&build, &env)?;
    cargo(&["build", "--release", "-p", "rb-bench", "--bin", "flame"])?;
    let data = format!("{FOLDER}/perf.data");
    let program = format!("{FOLDER}/release/rb");
    // A clock instead of the processor's counters, which virtual machines often lack.
    let mut line: Vec<&str> = "record -q -e cpu-clock -F 1999 -g -o".split(' ').collect();
    line.extend([data.as_str(), &program, "bench"]);
    line.extend(args.iter().map(String::as_str));
    program_with("perf", "perf", &line, &[])?;
    draw(&data, Path::new(FOLDER).join("flame.svg").as_path())
}

fn draw(data: &str, to: &Path) -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |why: std::io::Error| format!("{what}: {why}")
    };
    let file = std::fs::File::create(to).map_err(failed("making the flame graph"))?;
    let mut stacks = Command::new("perf")
        .args(["script", "-i", data])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed("perf script"))?;
    let piped = stacks.stdout.take().ok_or("perf script has no output")?;
    let drawn = Command::new("target/release/flame")
        .stdin(piped)
        .stdout(file)
        .status()
        .map_err(failed("drawing"))?;
    let read = stacks.wait().map_err(failed("perf script"))?;
    if !(drawn.success() && read.success()) {
        return Err(format!("perf script: {read}, drawing: {drawn}"));
    }
    eprintln!("== {}", to.display());
    Ok(())
}
