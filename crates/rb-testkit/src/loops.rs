//! Loop devices: real block devices for tests, if the machine lets root create them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skip;

/// A loop device over a file, detached when dropped.
#[derive(Debug)]
pub struct LoopDevice(PathBuf);

impl LoopDevice {
    /// Attaches a loop device with direct I/O and logical blocks of `sector` bytes. `None` if that
    /// is not possible; `what` is then reported as skipped.
    #[must_use]
    pub fn attach(what: &str, file: &Path, sector: u32) -> Option<Self> {
        let sector = sector.to_string();
        let output = Command::new("losetup")
            .args(["--find", "--show", "--direct-io=on", "--sector-size"])
            .arg(sector)
            .arg(file)
            .output();
        let Some(output) = output.ok().filter(|output| output.status.success()) else {
            skip::note(what, "no loop device can be attached here");
            return None;
        };
        let node = String::from_utf8_lossy(&output.stdout);
        Some(Self(PathBuf::from(node.trim())))
    }

    /// Returns its node in `/dev`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        drop(
            Command::new("losetup")
                .arg("--detach")
                .arg(&self.0)
                .status(),
        );
    }
}
