//! Checks `RLIMIT_FSIZE`, the largest file that this process may write.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::error::OpenError;

/// Refuses a file if this process may not write up to its end. The kernel sends SIGXFSZ for a write
/// beyond the limit, which terminates a process that does not handle it (setrlimit(2),
/// `RLIMIT_FSIZE`).
pub(super) fn check_size_limit(path: &Path, bytes: u64) -> Result<(), OpenError> {
    match getrlimit(Resource::Fsize).current {
        Some(limit) if limit < bytes => Err(OpenError::FileSizeLimit {
            path: path.into(),
            bytes,
            limit,
        }),
        _ => Ok(()),
    }
}
