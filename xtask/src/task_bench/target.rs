//! A place to measure on: two prewritten files of one size, one for this store and one for all peers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::program_with;

/// A file system in memory.
const MEMORY: &str = "/dev/shm";

/// Kind of a target.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A file on the disk.
    Disk,
    /// A loop device over a file in memory: a block device that costs next to nothing.
    Loop,
    /// A file in memory.
    Tmpfs,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Disk => "disk",
            Kind::Loop => "loop",
            Kind::Tmpfs => "tmpfs",
        }
    }
}

/// A place to measure on. Dropping it removes its files and devices.
pub(super) struct Target {
    /// File or device of this store.
    pub(super) ours: PathBuf,
    /// File or device of all peers, each of which writes first what it then reads.
    pub(super) peers: PathBuf,
    folder: PathBuf,
    /// Open loop devices. The kernel removes a detached loop device when it is last closed, so none stays behind, not
    /// even after a kill.
    loops: Vec<File>,
}

impl Target {
    /// Makes and writes both files, `bytes` each; `dir` is the folder for a disk.
    pub(super) fn make(kind: Kind, dir: &Path, bytes: u64) -> Result<Target, String> {
        let root = match kind {
            Kind::Disk => dir,
            Kind::Loop | Kind::Tmpfs => Path::new(MEMORY),
        };
        let folder = root.join(format!("rb-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        let mut target = Target {
            ours: folder.join("ours"),
            peers: folder.join("peers"),
            folder,
            loops: Vec::new(),
        };
        for path in [&target.ours, &target.peers] {
            prewrite(path, bytes)?;
        }
        if kind == Kind::Loop {
            for path in [&mut target.ours, &mut target.peers] {
                let (device, held) = attach(path)?;
                *path = device;
                target.loops.push(held);
            }
        }
        Ok(target)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// Writes the whole file with noise: blocks that were never written are slower to write and free to read.
fn prewrite(path: &Path, bytes: u64) -> Result<(), String> {
    let file = format!("--filename={}", path.display());
    let size = format!("--size={bytes}");
    let mut args = vec!["--name=prewrite", "--rw=write", "--bs=1m", "--direct=1"];
    args.extend(["--ioengine=io_uring", "--iodepth=16", "--fallocate=none"]);
    args.extend(["--refill_buffers", "--end_fsync=1", "--output=/dev/null"]);
    args.extend([file.as_str(), &size]);
    program_with("fio", "fio", &args, &[])
}

/// Makes a loop device over the file, whose name is no longer needed afterwards.
fn attach(path: &Path) -> Result<(PathBuf, File), String> {
    let file = path.to_string_lossy();
    let device = losetup(&["--find", "--show", "--direct-io=on", &file]).or_else(|why| {
        eprintln!("bench: the loop device uses the page cache, without direct I/O: {why}");
        losetup(&["--find", "--show", &file])
    })?;
    let held = File::open(&device).map_err(|why| format!("{device}: {why}"));
    // While it is held open, it is only marked for removal.
    losetup(&["--detach", &device])?;
    let failed = |why| format!("{}: {why}", path.display());
    fs::remove_file(path).map_err(failed)?;
    Ok((device.into(), held?))
}

fn losetup(args: &[&str]) -> Result<String, String> {
    let output = Command::new("losetup").args(args).output();
    let output = output.map_err(|why| format!("losetup: {why}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("losetup {}: {}", args.join(" "), why.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
