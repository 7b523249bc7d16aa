//! Finds device nodes by serial number: the number of a controller's `/dev/nvmeX` is arbitrary.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the node that an argument names: `serial:S` the block node of the NVMe drive with that serial number,
/// `generic:S` its character node, anything else a path.
///
/// # Errors
/// If there is no such drive.
pub fn node(name: &str) -> Result<PathBuf, String> {
    let by_serial = |class: &str, serial| {
        let found = with_serial(Path::new(class), serial);
        found.ok_or_else(|| format!("no device in {class} has the serial number {serial:?}"))
    };
    match name.split_once(':') {
        Some(("serial", serial)) => by_serial("/sys/block", serial),
        Some(("generic", serial)) => by_serial("/sys/class/nvme-generic", serial),
        _ => Ok(name.into()),
    }
}

fn with_serial(class: &Path, serial: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(class).ok()?.flatten() {
        let Ok(found) = fs::read_to_string(entry.path().join("device/serial")) else {
            continue;
        };
        let node = Path::new("/dev").join(entry.file_name());
        // A path of a namespace that several controllers share has no node.
        if found.trim() == serial && node.exists() {
            return Some(node);
        }
    }
    None
}
