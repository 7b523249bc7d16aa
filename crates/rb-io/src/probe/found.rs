//! The result of a probe.

use std::path::PathBuf;

use crate::device::DeviceKind;
use crate::engine::Feature;
use crate::kind::EngineKind;
use crate::limits::Limits;

/// The result of probing a path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Probe {
    /// The path as given by the caller.
    pub path: PathBuf,
    /// The kind of node.
    pub kind: DeviceKind,
    /// Its size in bytes.
    pub capacity_bytes: u64,
    /// True if this process may write to it.
    pub writable: bool,
    /// True if I/O bypasses the page cache.
    pub direct: bool,
    /// Features found when it was opened.
    pub features: Vec<Feature>,
    /// All engines, in the order of [`EngineKind::ALL`].
    pub engines: Vec<EngineProbe>,
    /// Changes that would improve performance, in sentences. Empty if there are none.
    pub advice: Vec<String>,
}

/// The result of probing one engine on a path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineProbe {
    /// The engine.
    pub kind: EngineKind,
    /// True if [`EngineKind::Auto`] would choose it.
    pub auto: bool,
    /// The capabilities of the engine, or the reason why it cannot be used.
    pub outcome: Result<EngineOffer, String>,
}

/// The capabilities of an engine on a path.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineOffer {
    /// Its limits, with their sources; for discards, those of
    /// [`Engine::discards`](crate::Engine::discards). They include the number of placement ids.
    pub limits: Limits,
    /// Features that its queues use, and those that they do not use, with the reason.
    pub features: Vec<Feature>,
}
