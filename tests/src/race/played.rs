//! A store over its rounds.

use std::path::Path;

use super::oracle::Oracle;

/// A store over its rounds.
pub(super) struct Played<'a> {
    pub(super) path: &'a Path,
    pub(super) image_seed: u64,
    pub(super) oracle: Oracle,
    /// True if it has entries whose bytes are gone.
    pub(super) phantoms: bool,
    /// Sequence of the block after the last one of its log.
    pub(super) log_end: u64,
}
