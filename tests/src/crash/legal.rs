//! What a crash may leave.

use super::version::{ABSENT, Version};

/// What a crash may leave.
#[derive(Clone, Debug)]
pub(super) struct Legal {
    /// Of each key.
    pub(super) keys: Vec<LegalKey>,
    /// Or nothing at all: the store is being emptied or formatted.
    pub(super) or_empty: bool,
    /// Or no store at all: it is being formatted.
    pub(super) or_no_store: bool,
}

/// What a crash may leave of a key.
#[derive(Clone, Debug, Default)]
pub(super) struct LegalKey {
    /// In order.
    pub(super) versions: Vec<Version>,
    /// Those of which the record may have reached the device, and not the bytes: the entry is there, and a read misses.
    pub(super) hollow: Vec<Version>,
}

impl LegalKey {
    /// Whether a read may miss an entry of this version.
    pub(super) fn may_miss(&self, version: Version) -> bool {
        self.versions.contains(&ABSENT) || self.hollow.contains(&version)
    }
}
