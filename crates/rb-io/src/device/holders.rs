//! Finds out who holds a block device, for the message of a refused exclusive open.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// Describes the holders of device number `rdev`. Best effort: the kernel itself only returns
/// EBUSY.
pub(super) fn describe(rdev: u64) -> String {
    let name = format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev));
    let mut found = Vec::new();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    found.extend(mount_points(&mounts, &name).map(|at| format!("mounted at {at}")));
    let sys = format!("/sys/dev/block/{name}");
    for holder in names_in(&format!("{sys}/holders")) {
        found.push(format!("held by {holder}"));
    }
    for partition in names_in(&sys) {
        let Ok(number) = fs::read_to_string(format!("{sys}/{partition}/dev")) else {
            continue;
        };
        if !fs::exists(format!("{sys}/{partition}/partition")).unwrap_or(false) {
            continue;
        }
        let mounted = mount_points(&mounts, number.trim());
        found.extend(mounted.map(|at| format!("its partition {partition} is mounted at {at}")));
    }
    if swaps().contains(&rdev) {
        found.push("used as swap".into());
    }
    if found.is_empty() {
        return "something opened it exclusively (EBUSY): another process, a mount in another \
                namespace, device mapper or md"
            .into();
    }
    found.join(", ")
}

/// Returns the loop device over a file, given by its device and inode number.
pub(super) fn loop_device_over(dev: u64, ino: u64) -> Option<String> {
    names_in("/sys/block").into_iter().find(|name| {
        let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
        let is_it = |path: &str| {
            fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == (dev, ino))
        };
        backing.is_ok_and(|path| is_it(path.trim_end_matches('\n')))
    })
}

/// Returns the path of the file behind loop device `rdev`, or behind the loop device that `rdev` is
/// a partition of.
pub(super) fn file_behind_loop(rdev: u64) -> Option<String> {
    let (major, minor) = (rustix::fs::major(rdev), rustix::fs::minor(rdev));
    let sys = format!("/sys/dev/block/{major}:{minor}");
    let path = ["loop", "../loop"]
        .iter()
        .find_map(|at| fs::read_to_string(format!("{sys}/{at}/backing_file")).ok())?;
    Some(path.trim_end_matches('\n').to_owned())
}

/// Returns the mount points of device `name` ("8:1"): column 3 is the device and column 5 the mount
/// point in `proc_pid_mountinfo(5)`.
fn mount_points<'a>(mounts: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    mounts.lines().filter_map(move |line| {
        let mut columns = line.split(' ');
        (columns.nth(2)? == name).then(|| columns.nth(1))?
    })
}

fn names_in(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Returns the device numbers of the active swap devices, from the first column of /proc/swaps.
fn swaps() -> Vec<u64> {
    use std::os::unix::fs::MetadataExt;
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let paths = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next());
    paths
        .filter_map(|path| fs::metadata(path).ok())
        .map(|node| node.rdev())
        .collect()
}

/// Returns the process that locked a file with `flock`, if the kernel exposes it (`/proc/locks`:
/// number, kind, mode, access, process, `major:minor:inode` with the device in hexadecimal, range).
/// Processes of other containers have no number here.
pub(super) fn process_with_lock(file: &fs::Metadata) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let device = file.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let wanted = format!("{major:02x}:{minor:02x}:{}", file.ino());
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, process, place, ..] = fields[..] else {
            return None;
        };
        let process = (place == wanted).then(|| process.parse().ok())?;
        process.filter(|process| *process > 0)
    })
}

/// Returns whether a process is gone or a zombie (`/proc/PID/stat`: number, name in parentheses,
/// state).
pub(super) fn has_ended(process: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return true;
    };
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    #[test]
    fn mount_points_are_found_by_number() {
        let mounts = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n\
                      37 35 98:1 / /other rw - ext4 /dev/vdb rw\n";
        let found: Vec<_> = super::mount_points(mounts, "98:1").collect();
        assert_eq!(found, ["/other"]);
    }
}
