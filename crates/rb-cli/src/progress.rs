//! Progress bars: on standard error, and only if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rb_core::Progress;

/// A bar over a known number of steps. It draws nothing where nobody would see it.
pub(crate) fn bar(steps: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let template = "{msg:<12} {wide_bar} {human_pos}/{human_len}  {per_sec}  eta {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}

/// A bar for work that says itself how far it is, and how far it has to go.
pub(crate) fn progress_bar(what: &str) -> Progress {
    let bar = bar(0, what);
    Progress::new(move |done, all| {
        // Of a store that is written meanwhile there may be more than was counted.
        bar.set_length(all.max(done));
        bar.set_position(done);
    })
}
