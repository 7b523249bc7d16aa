//! The set of outcomes that a crash may leave.

use super::version::{ABSENT, Version};

/// Legal outcomes of a crash.
#[derive(Clone, Debug)]
pub(super) struct Legal {
    /// Legal outcomes of each key.
    pub(super) keys: Vec<LegalKey>,
    /// True if all keys may be absent: the store is being emptied or formatted.
    pub(super) or_empty: bool,
    /// True if there may be no store: the device is being formatted.
    pub(super) or_no_store: bool,
}

/// Legal outcomes of one key.
#[derive(Clone, Debug, Default)]
pub(super) struct LegalKey {
    /// Legal versions, in order.
    pub(super) versions: Vec<Version>,
    /// Versions whose record may have reached the device without the bytes: the entry is there, and a read misses.
    pub(super) hollow: Vec<Version>,
}

impl LegalKey {
    /// Returns whether a read may miss an entry of this version.
    pub(super) fn may_miss(&self, version: Version) -> bool {
        self.versions.contains(&ABSENT) || self.hollow.contains(&version)
    }
}
