//! What a look at a path found, as it is reported.

use std::path::PathBuf;

use crate::device::DeviceKind;
use crate::engine::Feature;
use crate::kind::EngineKind;
use crate::limits::Limits;

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
    /// Its limits, with their sources; for discards, those of [`Engine::discards`](crate::Engine::discards). They say how many placement ids there are.
    pub limits: Limits,
    /// What a queue of it uses, and what not and why.
    pub features: Vec<Feature>,
}
