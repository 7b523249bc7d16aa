//! Facts about the machine, from the files of the kernel. A fact that cannot be found is left out.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{major, minor};

/// Returns the time of day in UTC, to the second.
#[must_use]
pub fn date() -> String {
    let text = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    format!("{} UTC", text.trim_end_matches('Z').replace('T', " "))
}

/// Returns the processor, the memory and the kernel, each with its name.
#[must_use]
pub fn machine() -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let of = if cores == 1 { "core" } else { "cores" };
    let model = field("/proc/cpuinfo", "model name");
    let model = model.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    facts.push(("CPU", format!("{model}, {cores} {of} usable")));
    let memory = field("/proc/meminfo", "MemTotal");
    let kib = memory.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    facts.extend(kib.map(|kib| ("memory", format!("{:.1} GiB", kib / f64::from(1 << 20)))));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease");
    facts.extend(kernel.map(|text| ("kernel", format!("Linux {}", text.trim()))));
    facts
}

/// Returns a description of the storage behind a path: the file or node, the drive and its size.
#[must_use]
pub fn storage(path: &Path) -> String {
    let Ok(found) = fs::metadata(path) else {
        return "unknown".to_owned();
    };
    let is_block = found.file_type().is_block_device();
    let device = if is_block { found.rdev() } else { found.dev() };
    let kind = match () {
        () if is_block => "block device",
        () if found.is_file() => "file",
        () => "node",
    };
    let sys = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    let Ok(mut folder) = fs::canonicalize(sys) else {
        return format!("{kind}, not on one block device");
    };
    // A partition is a folder in that of its drive.
    if folder.join("partition").exists()
        && let Some(drive) = folder.parent()
    {
        folder = drive.to_path_buf();
    }
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let mut words = match (is_block, folder.file_name()) {
        (true, Some(name)) => format!("block device {}", name.to_string_lossy()),
        (_, Some(name)) => format!("{kind} on {}", name.to_string_lossy()),
        (_, None) => kind.to_owned(),
    };
    if let Some(model) = text("device/model").filter(|model| !model.trim().is_empty()) {
        words += &format!(" ({})", model.trim());
    }
    // The kernel counts sectors of 512 bytes, also on drives with larger ones.
    if let Some(sectors) = text("size").and_then(|size| size.trim().parse::<u64>().ok()) {
        words += &format!(", {:.1} GB", sectors as f64 * 512.0 / 1e9);
    }
    words
}

/// Returns the first value of a field in a file of lines such as `name : value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(found, _)| found.trim() == name)?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_processor_memory_and_a_kernel() {
        let names: Vec<&str> = machine().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["CPU", "memory", "kernel"]);
    }

    #[test]
    fn a_date_has_day_and_time() {
        let date = date();
        assert!(
            date.len() == "2026-01-31 12:00:00 UTC".len() && date.starts_with("20"),
            "{date}"
        );
    }

    #[test]
    fn storage_of_nothing_is_unknown_and_of_proc_is_no_device() {
        assert_eq!(storage(Path::new("/nonexistent/x")), "unknown");
        assert_eq!(
            storage(Path::new("/proc/meminfo")),
            "file, not on one block device"
        );
    }
}
