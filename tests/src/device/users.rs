//! Runs the program `rb` on the two nodes of a namespace, as an operator uses it, and checks what it must refuse there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cell::{Cell, Outcome};
use super::nodes::node;
use super::program::program;
use crate::marked::bytes_of;

/// Mount point of a file system in the guest that must survive, and a file on it.
const MOUNT: &str = "/tmp/mounted";
const FILE: &str = "/tmp/mounted/precious";

/// Bytes of a value: not a multiple of any block size.
const LEN: usize = 777_777;

/// A namespace, and the serial number of its drive.
#[derive(Clone)]
struct Drive {
    serial: String,
    character: PathBuf,
    block: PathBuf,
}

/// Runs the tests with the drive of that serial number. `rb` must be in the path.
///
/// # Errors
/// If there is no such drive.
pub fn users(cell: &mut Cell, serial: &str) -> Result<(), String> {
    let drive = Drive {
        serial: serial.to_owned(),
        character: node(&format!("generic:{serial}"))?,
        block: node(&format!("serial:{serial}"))?,
    };
    let shared = drive.clone();
    cell.test(
        "each node returns what was put through the other",
        move || both_nodes(&shared),
    );
    let shared = drive.clone();
    cell.test("a wrong serial number is refused", move || {
        serial_number(&shared)
    });
    cell.test("a mounted device is refused on both nodes", move || {
        mounted(&drive)
    });
    Ok(())
}

fn rb(words: &[&'static str], path: &Path) -> Result<String, String> {
    let path = path.display().to_string();
    let named = |word: &&'static str| if *word == "PATH" { path.as_str() } else { word };
    let words: Vec<&str> = words.iter().map(named).collect();
    program("rb", &words)
}

fn both_nodes(drive: &Drive) -> Outcome {
    let nodes = [&drive.character, &drive.block];
    rb(
        &["format", "PATH", "--slot-bytes", "1MiB", "--yes", "--force"],
        nodes[0],
    )?;
    for (version, (writer, reader)) in (1..).zip([(0, 1), (1, 0), (0, 0)]) {
        let value = bytes_of(7, version, LEN);
        fs::write("/tmp/value", &value).map_err(|why| why.to_string())?;
        rb(&["put", "PATH", "key", "/tmp/value"], nodes[writer])?;
        rb(
            &["get", "PATH", "key", "--output", "/tmp/got"],
            nodes[reader],
        )?;
        let got = fs::read("/tmp/got").map_err(|why| why.to_string())?;
        if got != value {
            return Err(format!(
                "version {version}: {} bytes came back, not those that were put",
                got.len()
            ));
        }
    }
    let [from, to] = nodes.map(|path| path.display().to_string());
    refusal(
        "rb",
        &["get", &from, "key", "-o", &to],
        &["the store itself"],
    )?;
    let mut engines = Vec::new();
    for path in nodes {
        let info = rb(&["info", "PATH", "--json"], path)?;
        let fsck = rb(&["fsck", "PATH", "--deep", "--json"], path)?;
        let probe = rb(&["probe", "PATH", "--json"], path)?;
        let parsed = |text: &str| {
            serde_json::from_str::<serde_json::Value>(text).map_err(|why| format!("{why}: {text}"))
        };
        let (info, fsck, probe) = (parsed(&info)?, parsed(&fsck)?, parsed(&probe)?);
        if info["live"] != 1 || fsck["state"] != "clean" || fsck["payloads_read"] != 1 {
            return Err(format!("of one live value: {info}; {fsck}"));
        }
        let offers = probe["engines"].as_array().into_iter().flatten();
        let auto = offers.clone().find(|offer| offer["auto"] == true);
        let auto = auto.ok_or_else(|| format!("no engine for {}: {probe}", path.display()))?;
        engines.push(format!("{} by {}", path.display(), auto["engine"]));
    }
    Ok(format!("{LEN} bytes; {}", engines.join(", ")))
}

fn serial_number(drive: &Drive) -> Outcome {
    let mut said = Vec::new();
    for path in [&drive.character, &drive.block] {
        let words = ["nothing was written", &drive.serial];
        said.push(suite_refused(path, "no-such-drive", &words)?);
    }
    Ok(said.join("; "))
}

fn mounted(drive: &Drive) -> Outcome {
    let shown = drive.block.display().to_string();
    program("mke2fs", &["-F", "-b", "4096", &shown])?;
    program("mkdir", &["-p", MOUNT])?;
    program("mount", &["-t", "ext2", &shown, MOUNT])?;
    let precious = bytes_of(1, 1, LEN);
    fs::write(FILE, &precious).map_err(|why| why.to_string())?;
    let mut said = Vec::new();
    for path in [&drive.character, &drive.block] {
        let node = path.display().to_string();
        let words = ["mounted at", MOUNT];
        let format = ["format", &node, "--slot-bytes", "1MiB", "--yes", "--force"];
        said.push(refusal("rb", &format, &words)?);
        suite_refused(path, &drive.serial, &words)?;
        // It looks for a store first, and the file system has overwritten the former one.
        let put = ["put", &node, "key", "/tmp/value"];
        refusal("rb", &put, &["no usable superblock"])?;
    }
    program("umount", &[MOUNT])?;
    program("mount", &["-t", "ext2", &shown, MOUNT])?;
    let found = fs::read(FILE).map_err(|why| why.to_string())?;
    program("umount", &[MOUNT])?;
    match found == precious {
        true => Ok(said.join("; ")),
        false => Err(format!("{FILE} has changed")),
    }
}

/// The suite on hardware, as `cargo xtask device-test --device` runs it, must refuse.
fn suite_refused(path: &Path, serial: &str, words: &[&str]) -> Outcome {
    let own = std::env::current_exe().map_err(|why| why.to_string())?;
    let (own, path) = (own.display().to_string(), path.display().to_string());
    let args = ["real", &path, "--serial", serial, "--engines", "auto"];
    refusal(&own, &args, words)
}

/// Runs a program that must fail with all these words on its standard error; returns its standard error.
fn refusal(program: &str, args: &[&str], words: &[&str]) -> Outcome {
    let shown = format!("{program} {}", args.join(" "));
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|why| format!("{shown}: {why}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match !output.status.success() && words.iter().all(|word| said.contains(word)) {
        true => Ok(said),
        false => Err(format!(
            "{shown}: {}, not refused with {words:?}: {said}",
            output.status
        )),
    }
}
