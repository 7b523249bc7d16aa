//! The plan of a session.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rb_core::EngineKind;

use super::shape::{Image, Session};

/// How a session ends, unless it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The last handle is dropped.
    Drop,
    Close,
}

/// What a session is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) path: PathBuf,
    pub(super) engine: EngineKind,
    pub(super) image: Image,
    pub(super) session: Session,
    /// The first version that it may put; each is put once in a run.
    pub(super) first_version: u64,
    pub(super) time: Duration,
    pub(super) end: End,
    /// Every key is read before the threads begin, so that entries are gone whose bytes are.
    pub(super) reads_first: bool,
}

/// Numbers for all threads.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) version: AtomicU64,
}

impl Numbers {
    pub(super) fn versions(&self, count: usize) -> u64 {
        self.version.fetch_add(count as u64, Ordering::Relaxed)
    }
}
