//! How a store is audited, and what the parts of an audit share.

use std::time::Duration;

use rb_format::{Geometry, Superblock};
use rb_io::EngineKind;

use super::report::AuditReport;
use crate::io::meta_io::MetaIo;
use crate::progress::Progress;

/// How a store is audited.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// How a device or file is reached.
    pub engine: EngineKind,
    /// Read the payload of every live entry too, not only its header.
    pub deep: bool,
    /// Look at a store though someone has it open for writing. What is read then moves meanwhile, and
    /// findings may be false.
    pub in_use: bool,
    /// For a repair: write over what shows the device to belong to another program.
    pub force: bool,
    /// Requests in flight, 1 to 4096.
    pub queue_depth: u32,
    /// How long a request may take before the audit gives up.
    pub io_deadline: Duration,
    /// Told how far the reading of slots has come.
    pub progress: Option<Progress>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        AuditOptions {
            engine: EngineKind::Auto,
            deep: false,
            in_use: false,
            force: false,
            queue_depth: 256,
            io_deadline: Duration::from_secs(30),
            progress: None,
        }
    }
}

/// What the parts of an audit share.
pub(super) struct Audit<'a> {
    pub(super) io: MetaIo,
    pub(super) superblock: &'a Superblock,
    pub(super) geometry: &'a Geometry,
    pub(super) options: &'a AuditOptions,
    pub(super) report: AuditReport,
    /// Entries of this opening and later ones must be whole.
    pub(super) settled_from: Option<u32>,
}
