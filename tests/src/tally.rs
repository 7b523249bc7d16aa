//! Shared parts of the long checks: which engines they run on, messages of errors, and how they end.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use rb_core::EngineKind;
use rb_testkit::skip;
use serde::Serialize;

/// Result of a check on one engine.
pub trait Report: Display + Serialize {
    /// Returns whether there was no violation.
    fn is_good(&self) -> bool;
}

/// Returns the engines that a name stands for: one, or `all` that work here. Those that do not are recorded as skipped.
///
/// # Errors
/// If there is no such engine.
pub fn engines(name: &str) -> Result<Vec<EngineKind>, String> {
    if name != "all" {
        return Ok(vec![name.parse().map_err(|why| format!("{why}"))?]);
    }
    let file = tempfile::NamedTempFile::new().map_err(|why| why.to_string())?;
    file.as_file()
        .set_len(4096)
        .map_err(|why| why.to_string())?;
    let io_uring = skip::io_uring_works("the check on io_uring", file.path());
    let io_uring = io_uring.then_some(EngineKind::IoUring);
    Ok([EngineKind::Posix].into_iter().chain(io_uring).collect())
}

/// Prints the reports, each as a line of JSON if requested, and returns how the program ends.
pub fn conclude<R: Report>(program: &str, json: bool, reports: Result<Vec<R>, String>) -> ExitCode {
    let reports = match reports {
        Ok(reports) => reports,
        Err(why) => {
            eprintln!("{program}: {why}");
            return ExitCode::FAILURE;
        }
    };
    for report in &reports {
        let text = match json {
            true => serde_json::to_string(report).unwrap_or_default(),
            false => report.to_string(),
        };
        // Standard output may be closed; the exit code reports it too.
        drop(writeln!(std::io::stdout(), "{text}"));
    }
    match reports.iter().all(Report::is_good) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Returns an error with all its sources, on one line.
pub(crate) fn words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
