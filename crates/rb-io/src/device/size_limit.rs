//! The size to which this process may write files.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::error::OpenError;

/// Refuses a file of so many bytes that this process may not write to its end: the kernel answers a write beyond the limit
/// with SIGXFSZ, which ends a process that has not asked otherwise (setrlimit(2), `RLIMIT_FSIZE`).
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
