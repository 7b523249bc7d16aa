//! The wheel on each Python, the source distribution, and the wheel for another processor.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::plan::Plan;
use super::runner::Runner;
use crate::task_wheel::{self, Environment};

/// Minor versions of the Pythons that the wheel supports.
const MINORS: std::ops::RangeInclusive<u32> = 10..=14;

const LIMIT: Duration = Duration::from_mins(2);
const BUILD_LIMIT: Duration = Duration::from_mins(40);

/// The oldest C library.
const PLATFORM: &str = "manylinux_2_28";

pub(super) fn run(plan: &Plan, tools: &Environment, runner: &mut Runner<'_>) -> Result<(), String> {
    for minor in MINORS {
        let step = format!("wheel/python3.{minor}");
        if !runner.wants(&step) {
            continue;
        }
        let Some(python) = python(minor) else {
            runner.skip(&step, "this machine has no such Python");
            continue;
        };
        let name = format!("bare-3.{minor}");
        match runner.door.bare(&python.to_string_lossy(), &name) {
            Ok(python) => runner.program(&step, &python, "round_trip", &[&step], LIMIT)?,
            Err(why) => runner.fail(&step, &why),
        }
    }
    let python = tools.program("python");
    let wheel = runner.door.wheel.clone();
    let args = ["wheel/readme", wheel.as_str()];
    runner.program("wheel/readme", &python, "readme", &args, LIMIT)?;
    if plan.quick {
        runner.skip("wheel/sdist", "left out by --quick");
        runner.skip("wheel/x86_64", "left out by --quick");
        runner.skip("wheel/aarch64", "left out by --quick");
        return Ok(());
    }
    if runner.wants("wheel/sdist") {
        from_sdist(tools, runner)?;
    }
    for processor in ["x86_64", "aarch64"] {
        if runner.wants(&format!("wheel/{processor}")) {
            with_zig(tools, runner, processor)?;
        }
    }
    Ok(())
}

/// Builds the source distribution as pip does it, and runs the README's example with the result.
fn from_sdist(tools: &Environment, runner: &mut Runner<'_>) -> Result<(), String> {
    let step = "wheel/sdist";
    let sdist = task_wheel::sdist(tools)?;
    let folder = emptied(runner.door.folder.join("from-sdist"))?;
    let mut pip = Command::new(tools.program("python"));
    pip.args(["-m", "pip", "wheel", "--no-deps", "--wheel-dir"])
        .arg(&folder)
        .arg(&sdist)
        // The dependencies are built already.
        .env("CARGO_TARGET_DIR", target()?);
    if runner.command(step, &mut pip, "builds to a wheel", BUILD_LIMIT)? {
        let wheel = task_wheel::only_file(&folder, "whl")?;
        let step = "wheel/sdist/readme";
        let python = tools.program("python");
        runner.program(step, &python, "readme", &[step, &wheel], LIMIT)?;
    }
    Ok(())
}

/// Builds the wheel for a processor and the oldest C library that it supports, with the linker of zig. It is run if this
/// machine can run it.
fn with_zig(tools: &Environment, runner: &mut Runner<'_>, processor: &str) -> Result<(), String> {
    let step = format!("wheel/{processor}");
    let target = format!("{processor}-unknown-linux-gnu");
    let added = Command::new("rustup")
        .args(["target", "add", &target])
        .output();
    if !added.is_ok_and(|output| output.status.success()) {
        runner.skip(&step, "Rust's library for it cannot be fetched");
        return Ok(());
    }
    if let Err(why) = tools.install(&["ziglang"]) {
        runner.skip(&step, &format!("zig cannot be fetched: {why}"));
        return Ok(());
    }
    let folder = emptied(runner.door.folder.join(processor))?;
    let mut maturin = Command::new(tools.program("maturin"));
    maturin
        .args(["build", "--quiet", "--zig", "--target", &target])
        .args(["--compatibility", PLATFORM])
        .args(["--manifest-path", "crates/rb-python/Cargo.toml", "--out"])
        .arg(&folder);
    // maturin runs zig through the Python that it finds.
    if let Some(folder) = tools.program("python").parent() {
        let folder = std::path::absolute(folder).map_err(|why| why.to_string())?;
        let path = std::env::var("PATH").unwrap_or_default();
        maturin.env("PATH", format!("{}:{path}", folder.display()));
    }
    let runs = std::env::consts::ARCH == processor;
    let figure = format!(
        "built for {PLATFORM}{}",
        if runs { "" } else { ", not run" }
    );
    if runner.command(&step, &mut maturin, &figure, BUILD_LIMIT)? && runs {
        let wheel = task_wheel::only_file(&folder, "whl")?;
        let step = format!("{step}/readme");
        let python = tools.program("python");
        runner.program(&step, &python, "readme", &[&step, &wheel], LIMIT)?;
    }
    Ok(())
}

fn emptied(folder: PathBuf) -> Result<PathBuf, String> {
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    Ok(folder)
}

fn target() -> Result<PathBuf, String> {
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    std::path::absolute(Path::new(&folder)).map_err(|why| why.to_string())
}

/// Returns a Python of the machine that starts: one in the search path, or one of pyenv, whose names in the search path
/// do not start.
fn python(minor: u32) -> Option<PathBuf> {
    let in_path = PathBuf::from(format!("python3.{minor}"));
    let pyenv = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let prefix = format!("3.{minor}.");
    let of_pyenv = versions
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path().join("bin/python3"));
    let starts = |python: &PathBuf| {
        let output = Command::new(python).arg("--version").output();
        output.is_ok_and(|output| output.status.success())
    };
    std::iter::once(in_path).chain(of_pyenv).find(starts)
}
