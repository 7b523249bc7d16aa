//! Options of an audit, and the state that its parts share.

use std::time::Duration;

use rb_format::{Geometry, Superblock};
use rb_io::EngineKind;

use super::report::AuditReport;
use crate::io::meta_io::MetaIo;
use crate::progress::Progress;

/// Options of an audit.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Engine for a device or file.
    pub engine: EngineKind,
    /// If true, reads the payload of every live entry, not only its header.
    pub deep: bool,
    /// If true, audits a store that another process may have open for writing. The store then
    /// changes during the audit, and findings may be false.
    pub in_use: bool,
    /// For a repair: if true, overwrites data of another program on the device.
    pub force: bool,
    /// Requests in flight, 1 to 4096.
    pub queue_depth: u32,
    /// Longest time a request may take before the audit fails.
    pub io_deadline: Duration,
    /// Receives the progress of reading the slots.
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

/// State shared by the parts of an audit.
pub(super) struct Audit<'a> {
    pub(super) io: MetaIo,
    pub(super) superblock: &'a Superblock,
    pub(super) geometry: &'a Geometry,
    pub(super) options: &'a AuditOptions,
    /// Size of the device in bytes. It may be less than the layout.
    pub(super) capacity: u64,
    pub(super) report: AuditReport,
    /// Entries of this incarnation and later ones must be whole; `None` if the store was not
    /// closed.
    pub(super) settled_from: Option<u32>,
}
