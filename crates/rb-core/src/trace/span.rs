//! Spans of operations.

use std::path::Path;

use tracing::Level;
use tracing::field::Empty;
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};

use crate::error::Error;
use crate::events::shielded;

/// The target of all spans and events.
pub(super) const TARGET: &str = "rb_core";

/// Returns whether a subscriber may be interested in this level: one relaxed load.
#[inline]
pub(super) fn is_on(level: Level) -> bool {
    level <= STATIC_MAX_LEVEL && level <= LevelFilter::current()
}

/// A span, from its creation to its drop; `None` if no subscriber is interested.
#[derive(Debug)]
pub(crate) struct Span(Option<tracing::Span>);

impl Span {
    #[inline]
    pub(super) fn new(level: Level, make: impl FnOnce() -> tracing::Span) -> Span {
        match is_on(level) {
            true => Span::made(make),
            false => Span(None),
        }
    }

    #[cold]
    fn made(make: impl FnOnce() -> tracing::Span) -> Span {
        let mut made = None;
        shielded(|| made = Some(make()));
        Span(made.filter(|span| !span.is_disabled()))
    }

    fn record(&self, record: impl FnOnce(&tracing::Span)) {
        if let Some(span) = &self.0 {
            shielded(|| record(span));
        }
    }

    /// A span that nothing is reported of.
    pub(crate) fn none() -> Span {
        Span(None)
    }

    /// Ends.
    pub(crate) fn done(self) {}

    /// Ends with one result.
    pub(crate) fn end<T>(self, outcome: &Result<T, Error>) {
        if let Err(error) = outcome {
            self.record(|span| {
                span.record("error", word(error));
            });
        }
    }

    /// Ends a commit of so many bytes of log blocks.
    pub(crate) fn end_commit(self, outcome: &Result<usize, Error>) {
        if let Ok(bytes) = outcome {
            self.record(|span| {
                span.record("bytes", bytes);
            });
        }
        self.end(outcome);
    }

    /// Ends a pass of the scrubber that read so much.
    pub(crate) fn end_pass(self, entries: u64, bytes: u64, dropped: u64, errors: u64) {
        self.record(|span| {
            span.record("entries", entries);
            span.record("bytes", bytes);
            span.record("dropped", dropped);
            span.record("errors", errors);
        });
    }

    /// Ends with one result per key. `done` returns the bytes of the value if the result is what was asked for, and
    /// `None` if it is the other one, such as a miss.
    pub(super) fn end_all<T>(
        self,
        answers: &[Result<T, Error>],
        done: impl Fn(&T) -> Option<usize>,
    ) {
        let Some(span) = &self.0 else { return };
        let (yes, no) = match span.metadata().map_or("", |metadata| metadata.name()) {
            "get" => ("hits", "misses"),
            "put" => ("written", "kept"),
            _ => ("removed", "missing"),
        };
        let (mut hits, mut misses, mut failures, mut bytes) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut first = None;
        for answer in answers {
            match answer {
                Ok(answer) => match done(answer) {
                    Some(len) => (hits, bytes) = (hits + 1, bytes + len as u64),
                    None => misses += 1,
                },
                Err(error) => {
                    failures += 1;
                    first.get_or_insert(error);
                }
            }
        }
        self.record(|span| {
            span.record(yes, hits);
            span.record(no, misses);
            span.record("failures", failures);
            if yes != "written" {
                span.record("bytes", bytes);
            }
            if let Some(error) = first {
                span.record("error", word(error));
            }
        });
    }

    /// Runs `work` inside the span. It must not call the host.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut entered = None;
        self.record(|span| entered = Some(span.clone().entered()));
        let done = work();
        if entered.is_some() {
            shielded(|| drop(entered));
        }
        done
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(span) = self.0.take() {
            shielded(|| drop(span));
        }
    }
}

/// Makes a span; its fields are evaluated only if a subscriber is interested.
macro_rules! span {
    ($level:ident, $name:literal, { $($fields:tt)* }) => {
        Span::new(Level::$level, || {
            tracing::span!(target: TARGET, Level::$level, $name, $($fields)*)
        })
    };
}

/// Spans of operations on keys.
pub(super) fn get(keys: usize) -> Span {
    span!(DEBUG, "get", { keys, hits = Empty, misses = Empty, failures = Empty, bytes = Empty, error = Empty })
}

pub(super) fn put(keys: usize, bytes: impl FnOnce() -> usize) -> Span {
    span!(DEBUG, "put", {
        keys,
        bytes = bytes(),
        written = Empty,
        kept = Empty,
        failures = Empty,
        error = Empty,
    })
}

pub(super) fn remove(keys: usize) -> Span {
    span!(DEBUG, "remove", {
        keys,
        removed = Empty,
        missing = Empty,
        failures = Empty,
        bytes = Empty,
        error = Empty,
    })
}

pub(super) fn sync() -> Span {
    span!(DEBUG, "sync", { error = Empty })
}

pub(super) fn commit() -> Span {
    span!(DEBUG, "commit", { bytes = Empty, error = Empty })
}

pub(super) fn checkpoint() -> Span {
    span!(INFO, "checkpoint", { error = Empty })
}

pub(super) fn close() -> Span {
    span!(INFO, "close", { error = Empty })
}

pub(super) fn scrub_pass() -> Span {
    span!(INFO, "scrub_pass", { entries = Empty, bytes = Empty, dropped = Empty, errors = Empty })
}

/// Starts the span of an open: from the end of the checks to the store that serves.
pub(crate) fn open(path: &Path) -> Span {
    span!(INFO, "open", { path = %path.display() })
}

/// Starts the span of one recovery.
pub(crate) fn recovery() -> Span {
    span!(INFO, "recovery", {})
}

/// Starts the span of a stage of a recovery.
pub(crate) fn stage(stage: &'static str) -> Span {
    span!(DEBUG, "stage", { stage })
}

/// The name of an error: that of its counter in [`FailureStats`](crate::FailureStats), or `other`.
pub(super) fn word(error: &Error) -> &'static str {
    match error {
        Error::NoSpace { .. } => "no_space",
        Error::Busy { .. } => "busy",
        Error::TimedOut { .. } => "timed_out",
        Error::Io(_) if error.is_out_of_space() => "out_of_space",
        Error::Io(_) => "io",
        Error::Poisoned { .. } => "poisoned",
        _ => "other",
    }
}
