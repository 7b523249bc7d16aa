//! Advice on what to change, one rule per function.

use std::fs;
use std::path::Path;

use super::found::Probe;
use crate::device::DeviceKind;
use crate::engine::Feature;
use crate::kind::EngineKind;
use crate::memory_limit::locked_limit;

/// Default buffer memory of a store.
const BUFFERS: u64 = 64 << 20;
/// Memory that a queue pins for them at most: windows of buffers overlap by up to a quarter.
const PINNED: u64 = BUFFERS / 4 * 5;

type Rule = fn(&Probe) -> Option<String>;

const RULES: &[Rule] = &[
    right_to_write,
    page_cache,
    loop_without_direct,
    io_uring_forbidden,
    io_uring_missing,
    locked_memory,
    descriptors,
    old_kernel,
    passthrough_node,
];

pub(super) fn advice(probe: &Probe) -> Vec<String> {
    RULES.iter().filter_map(|rule| rule(probe)).collect()
}

fn right_to_write(probe: &Probe) -> Option<String> {
    (!probe.writable).then(|| {
        "this process may not write here, which a store needs: change the owner or the mode of the node (block devices: group disk)".into()
    })
}

fn page_cache(probe: &Probe) -> Option<String> {
    (!probe.direct).then(|| {
        "I/O goes through the page cache: use a file system that takes O_DIRECT in blocks of 4096 bytes or less (ext4, xfs), or a block device"
            .into()
    })
}

/// Advice for a loop device that copies through the page cache of its backing file.
fn loop_without_direct(probe: &Probe) -> Option<String> {
    let name = block_name(probe)?;
    let setting = fs::read_to_string(format!("/sys/block/{name}/loop/dio")).ok()?;
    (setting.trim() == "0").then(|| {
        format!("/dev/{name} goes through the page cache of its file: losetup --direct-io=on /dev/{name}")
    })
}

fn io_uring_forbidden(probe: &Probe) -> Option<String> {
    let setting = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    let refused = refusal(probe, EngineKind::IoUring)?;
    let words = match setting.trim() {
        "0" if refused.contains("not permitted") => {
            "io_uring is forbidden to this process: allow io_uring_setup, io_uring_enter and io_uring_register in its seccomp profile".into()
        }
        "0" => return None,
        value => format!(
            "io_uring is forbidden: sysctl kernel.io_uring_disabled=0 (now {value}; 1 allows it to root and to the group of kernel.io_uring_group)"
        ),
    };
    Some(words)
}

fn io_uring_missing(probe: &Probe) -> Option<String> {
    let refused = refusal(probe, EngineKind::IoUring)?;
    if !cfg!(feature = "io-uring") {
        return Some("this build has no io_uring: build with the feature io-uring".into());
    }
    let lacks = refused.contains("this kernel lacks") || refused.contains("no io_uring");
    lacks.then(|| format!("io_uring needs Linux 5.11 or newer; this is {}", kernel()))
}

fn locked_memory(probe: &Probe) -> Option<String> {
    let refused = features(probe)
        .any(|feature| feature.name == "registered buffers" && feature.detail.contains("refused"));
    let ring = refusal(probe, EngineKind::IoUring).is_some_and(|why| why.contains("MEMLOCK"));
    let limit = locked_limit();
    // A probe pins too little memory to be refused.
    let too_small = limit.filter(|bytes| *bytes < PINNED && uses_ring(probe));
    (ring || refused || too_small.is_some()).then(|| {
        let now = limit.map_or_else(String::new, |bytes| format!(" (now {bytes} bytes)"));
        format!(
            "registering buffers needs locked memory: raise RLIMIT_MEMLOCK{now} to {PINNED} bytes for each queue of a store with the default buffers (ulimit -l, LimitMEMLOCK= of systemd)"
        )
    })
}

/// Returns whether an engine that registers buffers is usable.
fn uses_ring(probe: &Probe) -> bool {
    let registers = |kind| matches!(kind, EngineKind::IoUring | EngineKind::UringCmd);
    let engines = &mut probe.engines.iter();
    engines.any(|engine| registers(engine.kind) && engine.outcome.is_ok())
}

fn descriptors(probe: &Probe) -> Option<String> {
    let refused = refusal(probe, EngineKind::IoUring)?;
    refused.contains("RLIMIT_NOFILE").then(|| {
        "io_uring takes two file descriptors for each queue of a store: raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE= of systemd)".into()
    })
}

fn old_kernel(probe: &Probe) -> Option<String> {
    let refused = features(probe).find(|feature| {
        feature.name == "deferred task run" && feature.detail.contains("this kernel refused")
    })?;
    (!refused.on).then(|| {
        format!(
            "Linux 6.1 or newer saves interrupts (IORING_SETUP_DEFER_TASKRUN); this is {}",
            kernel()
        )
    })
}

/// Advice to use the character node of the same namespace, whose commands bypass the block layer.
fn passthrough_node(probe: &Probe) -> Option<String> {
    let name = block_name(probe)?;
    let namespace = name
        .strip_prefix("nvme")
        .filter(|rest| !rest.contains('p'))?;
    let node = format!("/dev/ng{namespace}");
    Path::new(&node).exists().then(|| {
        format!("NVMe passthrough costs less per request and takes placement ids: use {node} (engine uring_cmd)")
    })
}

/// Returns the kernel's name of a block device, such as `loop0`.
fn block_name(probe: &Probe) -> Option<String> {
    let node = fs::canonicalize(&probe.path).ok()?;
    let name = node.file_name()?.to_str()?.to_owned();
    (probe.kind == DeviceKind::Block).then_some(name)
}

/// Returns why an engine that could drive this kind of node does not run.
fn refusal(probe: &Probe, kind: EngineKind) -> Option<&String> {
    let drives = matches!(probe.kind, DeviceKind::File | DeviceKind::Block);
    let engine = probe.engines.iter().find(|engine| engine.kind == kind)?;
    engine.outcome.as_ref().err().filter(|_| drives)
}

/// Returns the features reported by the queues of all usable engines.
fn features(probe: &Probe) -> impl Iterator<Item = &Feature> {
    let offers = probe.engines.iter().flat_map(|engine| &engine.outcome);
    offers.flat_map(|offer| &offer.features)
}

fn kernel() -> String {
    let name = rustix::system::uname();
    name.release().to_string_lossy().into_owned()
}
