//! Limits how long something may take.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Time after its time limit at which something counts as hung.
pub(super) const WATCHDOG: Duration = Duration::from_mins(1);

/// Runs something in a separate thread.
///
/// # Errors
/// If it does not end in time, in which case the thread stays behind, or if it panics.
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        // The receiver is gone if it took too long.
        let _ = sender.send(work());
    });
    ended.recv_timeout(time).map_err(|why| match why {
        RecvTimeoutError::Timeout => format!("{what} did not end within {time:?}"),
        RecvTimeoutError::Disconnected => format!("{what} panicked"),
    })
}
