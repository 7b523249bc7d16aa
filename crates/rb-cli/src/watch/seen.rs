//! A look at an open store.

use std::path::Path;
use std::time::Instant;

use rb_core::monitor::{self, Session};

use crate::failure::Failure;

/// A session and the moment at which it was asked for.
pub(super) struct Seen {
    pub(super) at: Instant,
    pub(super) session: Session,
}

impl Seen {
    pub(super) fn now(path: &Path) -> Result<Seen, Failure> {
        let session = monitor::session(path).map_err(|source| Failure::Monitor { source })?;
        let at = Instant::now();
        Ok(Seen { at, session })
    }
}
