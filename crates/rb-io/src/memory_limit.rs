//! How much memory this process may have, and who says so.

use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit};

use crate::limits::Limit;

/// The smallest limit on the memory of this process in bytes, what it has already included: `RLIMIT_AS`, `RLIMIT_DATA`,
/// the control group's `memory.max`, or what the machine has with its swap. `None` if the system names none.
#[must_use]
pub fn memory_limit() -> Option<Limit<u64>> {
    // Miri knows none of the calls.
    if cfg!(miri) {
        return None;
    }
    let resource = |which, source| Some(Limit::new(getrlimit(which).current?, source));
    let limits = [
        resource(Resource::As, "RLIMIT_AS"),
        resource(Resource::Data, "RLIMIT_DATA"),
        *SYSTEM.get_or_init(system),
    ];
    limits.into_iter().flatten().min_by_key(|limit| limit.value)
}

/// Read once: it takes longer than a small store takes to open.
static SYSTEM: OnceLock<Option<Limit<u64>>> = OnceLock::new();

fn system() -> Option<Limit<u64>> {
    let group = control_group().map(|bytes| Limit::new(bytes, "memory.max of the control group"));
    let machine = machine().map(|bytes| Limit::new(bytes, "memory and swap of the machine"));
    let limits = group.into_iter().chain(machine);
    limits.min_by_key(|limit| limit.value)
}

/// `memory.max` of the group of this process (version 2); what groups above it allow is not looked at.
fn control_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let file = format!("/sys/fs/cgroup/{group}/memory.max");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn machine() -> Option<u64> {
    let system = rustix::system::sysinfo();
    let units = system.totalram.checked_add(system.totalswap)?;
    units.checked_mul(u64::from(system.mem_unit))
}
