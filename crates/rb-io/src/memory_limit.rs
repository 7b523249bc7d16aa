//! The memory limit of this process, with its source.

use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit};

use crate::limits::Limit;

/// Returns the smallest limit on the memory of this process in bytes, including memory already in
/// use: `RLIMIT_AS`, `RLIMIT_DATA`, the control group's `memory.max`, or the RAM and swap of the
/// machine. `None` if the system reports none.
#[must_use]
pub fn memory_limit() -> Option<Limit<u64>> {
    // Miri supports none of these calls.
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

/// Returns the amount of memory that this process may lock, if there is a limit.
pub(crate) fn locked_limit() -> Option<u64> {
    /// A process with this capability may lock any amount: capabilities(7).
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let unlimited = effective.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1);
    let limit = getrlimit(Resource::Memlock).current;
    limit.filter(|_| !unlimited)
}

/// Read once: reading takes longer than opening a small store.
static SYSTEM: OnceLock<Option<Limit<u64>>> = OnceLock::new();

fn system() -> Option<Limit<u64>> {
    let group = control_group().map(|bytes| Limit::new(bytes, "memory.max of the control group"));
    let machine = machine().map(|bytes| Limit::new(bytes, "memory and swap of the machine"));
    let limits = group.into_iter().chain(machine);
    limits.min_by_key(|limit| limit.value)
}

/// Returns `memory.max` of this process's control group (version 2); limits of parent groups are
/// not considered.
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
