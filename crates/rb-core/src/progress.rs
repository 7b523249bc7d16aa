//! [`Progress`]: a callback of long work.

use std::fmt;
use std::sync::Arc;

/// A callback that receives the amount done and the total: slots read, or bytes discarded.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(u64, u64) + Send + Sync>);

impl Progress {
    /// Makes a callback that is called after each piece of the work with the amount done and the total.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use rb_core::Progress;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// let seen = Arc::new(AtomicU64::new(0));
    /// let count = Arc::clone(&seen);
    /// let progress = Progress::new(move |done, _all| count.store(done, Ordering::Relaxed));
    /// let options = FormatOptions { discard: true, progress: Some(progress), ..options };
    /// match rb_core::format(&options) {
    ///     Ok(_) => assert!(seen.load(Ordering::Relaxed) >= 16 * (64 << 10)),
    ///     // A file system without holes takes no discards.
    ///     Err(why) => assert_eq!(seen.load(Ordering::Relaxed), 0, "{why}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(report: impl Fn(u64, u64) + Send + Sync + 'static) -> Progress {
        Progress(Arc::new(report))
    }

    pub(crate) fn report(&self, done: u64, all: u64) {
        (self.0)(done, all);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}
