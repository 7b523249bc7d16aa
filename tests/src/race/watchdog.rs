//! How long something may take.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// What has not ended so long after its time has hung.
pub(super) const WATCHDOG: Duration = Duration::from_mins(1);

/// Does something in a thread of its own.
///
/// # Errors
/// It did not end in time; then the thread stays behind. Or it panicked.
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
