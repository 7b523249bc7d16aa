//! Tests every engine on real kernels, without hardware: boots machines in software emulation whose drives have small
//! and large blocks and transfers, fail, lie, and disappear, and runs the same tests there as on a real drive.
//!
//! Needs Debian's package tools and its archive, and installs nothing.

mod fetch;
mod host;
mod initramfs;
mod machine;
mod matrix;
mod results;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Args;

use fetch::Lab;
use matrix::{Cell, machines};
use results::{Results, id};

use crate::run::cargo_output;

/// Folder of everything that is fetched and made, unless the environment variable names another one.
const FOLDER: &str = "target/device-lab";
pub(crate) const FOLDER_VARIABLE: &str = "RB_DEVICE_LAB";

/// Number of crash images of each record of dm-log-writes.
const POINTS: u32 = 240;
const POINTS_QUICK: u32 = 60;

/// The engines that run on the block node of a real device.
const BLOCK_ENGINES: &str = "posix,io_uring";
const CHARACTER_ENGINES: &str = "uring_cmd";
/// Machine name in the table for `--device`.
const HARDWARE: &str = "hardware";

/// The options of `cargo xtask device-test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only the quick cells, with fewer crash images.
    #[arg(long)]
    quick: bool,
    /// Run only the cells whose name, machine/device/engine, contains this.
    #[arg(
        long = "machine",
        value_name = "FILTER",
        default_value = "",
        hide_default_value = true
    )]
    filter: String,
    /// Run the suite on this device, which it overwrites after asking for the serial number.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["quick", "filter"])]
    device: Option<PathBuf>,
    /// The serial number of --device, for scripts: disables the prompt.
    #[arg(long, requires = "device")]
    serial: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the matrix, or the suite on hardware.
///
/// # Errors
/// If something cannot be fetched, built or booted, or a cell fails or does not run.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let program = build("rb-tests", "device", &[])?;
    if let Some(device) = &options.device {
        return real(&program, device, options.serial.as_deref(), options.json);
    }
    let folder = std::env::var_os(FOLDER_VARIABLE).unwrap_or_else(|| FOLDER.into());
    let lab = Lab::fetch(Path::new(&folder))?;
    let mut machines = machines();
    for machine in &mut machines {
        let name = machine.name;
        let wanted = |cell: &Cell| id(name, &cell.device, cell.engine).contains(&options.filter);
        machine
            .cells
            .retain(|cell| (cell.quick || !options.quick) && wanted(cell));
    }
    machines.retain(|machine| !machine.cells.is_empty());
    let with_host = host::MACHINE.contains(&options.filter);
    if machines.is_empty() && !with_host {
        return Err(format!("no cell has {:?} in its name", options.filter));
    }
    let mut results = Results::default();
    if with_host {
        host::expect(&mut results);
    }
    for machine in &machines {
        for cell in &machine.cells {
            let due = if cell.after.is_some() { 2 } else { 1 };
            results.expect(machine.name, &cell.device, cell.engine, due);
        }
    }
    if with_host {
        host::run(&lab, &program, &mut results)?;
    }
    let mut shipped = Vec::new();
    if machines.iter().any(|machine| machine.shipped) {
        shipped.push(build("rb-tests", "device", &["--release"])?);
        shipped.push(build("rb-cli", "rb", &["--release"])?);
    }
    let points = if options.quick { POINTS_QUICK } else { POINTS };
    for machine in &machines {
        let programs = match machine.shipped {
            true => &shipped[..],
            false => std::slice::from_ref(&program),
        };
        machine::run(&lab, programs, machine, &mut results)?;
        for cell in &machine.cells {
            host::replay(&lab, &program, (machine, cell), points, &mut results)?;
        }
    }
    conclude(&results, options.json)
}

/// Builds a program for the machines. Only its last step differs from an ordinary build (it bundles the C library), so
/// everything else is shared with the other tests. Not a release build unless something is measured: debug assertions
/// find more.
fn build(package: &str, program: &str, profile: &[&str]) -> Result<PathBuf, String> {
    let mut args = vec!["rustc", "--quiet", "-p", package, "--bin", program];
    args.extend([
        "--features",
        "libblkio",
        "--message-format",
        "json-render-diagnostics",
    ]);
    args.extend(profile);
    args.extend([
        "--",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "strip=symbols",
    ]);
    eprintln!("== cargo {}", args.join(" "));
    let output = cargo_output(&args)?;
    let messages = String::from_utf8_lossy(&output);
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    programs
        .next_back()
        .ok_or_else(|| "cargo reported no program".into())
}

/// Runs the suite on hardware; the program asks for the serial number.
fn real(program: &Path, device: &Path, serial: Option<&str>, as_json: bool) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    let shown = device.display();
    let kind = std::fs::metadata(device)
        .map_err(|why| format!("{shown}: {why}"))?
        .file_type();
    let engines = if kind.is_block_device() {
        BLOCK_ENGINES
    } else if kind.is_char_device() {
        CHARACTER_ENGINES
    } else {
        return Err(format!(
            "{shown} is neither a block device nor a character node"
        ));
    };
    let mut results = Results::default();
    for engine in engines.split(',').chain(["cross"]) {
        results.expect(HARDWARE, &shown.to_string(), engine, 1);
    }
    let mut command = Command::new(program);
    command.args(["--cell", &format!("{HARDWARE}/{shown}"), "real"]);
    command.arg(device).args(["--engines", engines]);
    if let Some(serial) = serial {
        command.args(["--serial", serial]);
    }
    // The program prompts on the terminal; its standard output is the results.
    let child = command.stdout(Stdio::piped()).spawn();
    let output = child.and_then(Child::wait_with_output);
    let output = output.map_err(|why| format!("{}: {why}", program.display()))?;
    results.take(&String::from_utf8_lossy(&output.stdout));
    // The program has printed the reason, and an empty table would hide it.
    if results.is_silent() {
        return Err(format!("{shown}: no test began, nothing was written"));
    }
    conclude(&results, as_json)
}

/// Prints the results.
fn conclude(results: &Results, as_json: bool) -> Result<(), String> {
    let text = match as_json {
        true => results.json(),
        false => results.table(),
    };
    let printed = std::io::stdout().write_all(text.as_bytes());
    printed.map_err(|why| why.to_string())?;
    match results.failures().len() {
        0 => Ok(()),
        count => Err(format!("{count} failures in the matrix of devices")),
    }
}
