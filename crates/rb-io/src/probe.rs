//! What a path offers: each engine, usable or why not, every limit with its source, and what to change.
//!
//! It looks the way a store does, and touches nothing: opened for reading, without a claim. Only a server
//! behind a socket notices, since it may have room for one client.

mod advice;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Access as Right;

use crate::device::{Access, Device, DeviceKind};
use crate::engine::{Engine, Feature, Issuer, QueueOptions};
use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::limits::Limits;
use crate::open::{candidates, open_one, reason};

/// What there is at a path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probe {
    /// The path as it was given.
    pub path: PathBuf,
    /// What kind of node it is.
    pub kind: DeviceKind,
    /// Its size in bytes.
    pub capacity_bytes: u64,
    /// Whether this process may write to it.
    pub writable: bool,
    /// Whether I/O bypasses the page cache.
    pub direct: bool,
    /// What was found when it was opened.
    pub features: Vec<Feature>,
    /// All engines, in the order of [`EngineKind::ALL`].
    pub engines: Vec<EngineProbe>,
    /// What to change, in sentences, to get the fast path. Empty if there is nothing.
    pub advice: Vec<String>,
}

/// One engine on a path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineProbe {
    /// Which one.
    pub kind: EngineKind,
    /// Whether [`EngineKind::Auto`] would take it.
    pub auto: bool,
    /// What it offers, or why it cannot be used.
    pub outcome: Result<EngineOffer, String>,
}

/// What an engine offers on a path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineOffer {
    /// Its limits, with their sources. They say how many placement ids there are.
    pub limits: Limits,
    /// What a queue of it uses, and what not and why.
    pub features: Vec<Feature>,
}

/// Buffer memory that a probed queue registers: that of a store by default.
const ARENA_BYTES: usize = 64 << 20;
/// Depth of a probed queue: that of a store by default.
const DEPTH: u32 = 256;

/// Looks at a file, device node or socket. Writes nothing and claims nothing.
///
/// # Errors
/// As [`Device::open`] for reading. An engine that cannot be used is no error.
pub fn probe(path: &Path) -> Result<Probe, OpenError> {
    let device = Arc::new(Device::open(path, Access::ReadOnly)?);
    let mut engines: Vec<_> = EngineKind::ALL
        .into_iter()
        .filter(|kind| *kind != EngineKind::Auto)
        .map(|kind| EngineProbe {
            kind,
            auto: false,
            outcome: offer(&device, kind).map_err(|why| why_not(kind, &why)),
        })
        .collect();
    let usable = |engines: &[EngineProbe], kind| {
        let named = |engine: &EngineProbe| engine.kind == kind && engine.outcome.is_ok();
        engines.iter().position(named)
    };
    let wanted = candidates(device.kind());
    if let Some(chosen) = wanted.iter().find_map(|kind| usable(&engines, *kind)) {
        engines[chosen].auto = true;
    }
    let mut probe = Probe {
        path: path.into(),
        kind: device.kind(),
        capacity_bytes: device.capacity_bytes(),
        writable: rustix::fs::access(path, Right::WRITE_OK).is_ok(),
        direct: device.direct(),
        features: device.report().to_vec(),
        engines,
        advice: Vec::new(),
    };
    probe.advice = advice::advice(&probe);
    Ok(probe)
}

/// The error without the name of the engine, which stands beside it.
fn why_not(kind: EngineKind, error: &OpenError) -> String {
    let words = reason(error);
    let beside = format!("engine {kind}: ");
    words.strip_prefix(&beside).unwrap_or(&words).to_owned()
}

fn offer(device: &Arc<Device>, kind: EngineKind) -> Result<EngineOffer, OpenError> {
    let engine: Arc<dyn Engine> = open_one(device, kind)?;
    let arena = engine.arena(ARENA_BYTES);
    // The best that a kernel has is for queues of one thread. This one is never used.
    let queue = engine.queue(&QueueOptions {
        depth: DEPTH,
        arenas: arena.into_iter().collect(),
        issuer: Issuer::OneThread,
        inline: false,
        linger: std::time::Duration::ZERO,
    })?;
    Ok(EngineOffer {
        limits: *engine.limits(),
        features: queue.report(),
    })
}
