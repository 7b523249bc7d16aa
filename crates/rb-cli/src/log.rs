//! `--log`: what the store reports to `tracing`, in lines on standard error.

use std::ffi::OsString;
use std::sync::OnceLock;

/// The filter of this program, which its children get, too.
static STARTED: OnceLock<LogFilter> = OnceLock::new();

/// A filter that was checked.
#[derive(Clone, Debug)]
pub struct LogFilter(String);

/// Checks a filter, part by part: the parser of the library does not say which part is wrong, and takes a level with a
/// slip in it for the name of a target.
pub(crate) fn parse_filter(text: &str) -> Result<LogFilter, String> {
    for part in text.split(',') {
        lines::check(part).map_err(|why| match part == text {
            true => why,
            false => format!("part '{part}': {why}"),
        })?;
    }
    Ok(LogFilter(text.to_owned()))
}

/// Starts to write the lines that the filter lets through.
pub(crate) fn start(filter: &LogFilter) {
    lines::start(&filter.0);
    // A second run in one process keeps the filter of the first.
    let _ = STARTED.set(filter.clone());
}

/// Returns the arguments that make a child write lines, too.
pub(crate) fn args() -> Vec<OsString> {
    let filter = STARTED.get();
    filter.map_or_else(Vec::new, |LogFilter(text)| {
        vec!["--log".into(), text.into()]
    })
}

#[cfg(not(feature = "tracing"))]
mod lines {
    pub(super) fn check(_: &str) -> Result<(), String> {
        Err("this program was built without the feature tracing".to_owned())
    }

    pub(super) fn start(_: &str) {}
}

#[cfg(feature = "tracing")]
mod lines {
    use std::io::{self, Write};

    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::filter::{Directive, LevelFilter};
    use tracing_subscriber::fmt::format::FmtSpan;

    use crate::progress;
    use crate::terminal::plain;

    const FORMS: &str = "give a level (off, error, warn, info, debug or trace), or rb_core=LEVEL";

    /// The target of everything that stores report.
    const TARGET: &str = "rb_core";

    pub(super) fn check(part: &str) -> Result<(), String> {
        let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
        let Some(end) = part.find(['=', '[']) else {
            return match part.parse::<LevelFilter>() {
                Ok(_) if !is_number => Ok(()),
                _ => Err(FORMS.to_owned()),
            };
        };
        let target = &part[..end];
        if target != TARGET && !(target.is_empty() && part.starts_with('[')) {
            return Err(format!("nothing reports as '{target}': {FORMS}"));
        }
        let directive = part.parse::<Directive>();
        directive.map(drop).map_err(|_| FORMS.to_owned())
    }

    pub(super) fn start(filter: &str) {
        // Cannot fail: each part was checked. An invalid one would be left out.
        let filter = EnvFilter::builder().parse_lossy(filter);
        let started = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(|| Lines)
            // Colours are characters that `plain` replaces.
            .with_ansi(false)
            // A span is shown when it ends, with its results and its duration.
            .with_span_events(FmtSpan::CLOSE)
            .try_init();
        // Fails if the process has a subscriber, which a run before this one set.
        drop(started);
    }

    /// Standard error, for whole lines.
    struct Lines;

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8_lossy(bytes);
            // A path or an error may have characters that move the cursor, or make lines of their own.
            let line = plain(text.trim_end()).replace('\n', "\\n");
            // A closed standard error leaves no place to report that.
            progress::suspended(|| drop(writeln!(io::stderr(), "{line}")));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_list_of_levels_and_targets() {
        for good in [
            "info",
            "WARN",
            "off",
            "rb_core=debug",
            "warn,rb_core=trace",
            "[get]=debug",
        ] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        for (bad, part) in [
            ("inof", "give a level"),
            ("", "give a level"),
            ("7", "give a level"),
            ("info,,debug", "part ''"),
            ("info,rb_core=loud", "part 'rb_core=loud'"),
            ("rb_cor=debug", "nothing reports as 'rb_cor'"),
            ("=debug", "nothing reports as ''"),
            ("info,rb_core[get=debug", "part 'rb_core[get=debug'"),
        ] {
            let why = parse_filter(bad).unwrap_err();
            assert!(why.contains(part), "{bad:?}: {why}");
        }
    }
}
