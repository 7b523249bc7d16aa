//! Progress bars: on standard error, and only if that is a terminal.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use rb_core::Progress;

/// The bar that was made last: no command shows two at a time.
static LAST: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

fn made(bar: ProgressBar) -> ProgressBar {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.downgrade());
    bar
}

/// Writes something else to standard error, with the bar out of its way.
#[cfg(feature = "tracing")]
pub(crate) fn suspended(write: impl FnOnce()) {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match last.and_then(|last| last.upgrade()) {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Makes a bar over a known number of steps.
pub(crate) fn bar(steps: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let template = "{msg:<12} {wide_bar} {human_pos}/{human_len}  {per_sec}  eta {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    made(bar)
}

/// Makes a bar over a duration, with rates as its message.
pub(crate) fn rates(time: Duration) -> ProgressBar {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let bar = ProgressBar::with_draw_target(Some(millis), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("measure {wide_bar} {percent} %  {msg}") {
        bar.set_style(style);
    }
    made(bar)
}

/// Makes a bar for work that reports its position and its length itself.
pub(crate) fn progress_bar(what: &str) -> Progress {
    let bar = bar(0, what);
    Progress::new(move |done, all| {
        // A store that is written concurrently may have more entries than were counted.
        bar.set_length(all.max(done));
        bar.set_position(done);
    })
}
