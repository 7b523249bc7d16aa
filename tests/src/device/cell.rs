//! Runs the tests of one engine on one device, each under a watchdog, and prints a line of results for each.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Prefix of a line of results, so that no other console output is taken for one.
pub const MARK: &str = "RB-DEVICE ";

/// Steps after which a test has hung. Software emulation is slow, and two machines may share it. Counted in steps, not
/// by the clock: if the host stands still, that is one long step, and not a test that hangs.
const WATCHDOG_STEPS: u32 = 240;
const WATCHDOG_STEP: Duration = Duration::from_secs(1);

/// One engine on one device, and the results of its tests.
#[derive(Debug)]
pub struct Cell {
    name: String,
    failed: u32,
}

/// Result of a test: an observation, or a description of the failure.
pub type Outcome = Result<String, String>;

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Test {
        cell: &'a str,
        test: &'a str,
        status: &'static str,
        seconds: f64,
        said: &'a str,
    },
    /// All tests of the cell were run or skipped.
    End { cell: &'a str },
}

impl Line<'_> {
    fn say(&self) {
        let text = serde_json::to_string(self).unwrap_or_default();
        // In one write, with a line break in front: a kernel message may be on the line.
        let line = format!("{MARK}{text}\n");
        let mut out = std::io::stdout();
        drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
    }
}

impl Cell {
    /// Creates a cell of which nothing has been run.
    #[must_use]
    pub fn new(name: &str) -> Cell {
        Cell {
            name: name.to_owned(),
            failed: 0,
        }
    }

    /// Runs a test. A test that panics has failed. If it does not end, the process exits, because its resources remain
    /// held.
    pub fn test(&mut self, name: &str, test: impl FnOnce() -> Outcome + Send + 'static) {
        let start = Instant::now();
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(test));
            let outcome = outcome.unwrap_or_else(|panic| Err(panic_message(panic.as_ref())));
            // After the watchdog, the receiver is gone.
            let _ = sender.send(outcome);
        });
        let mut steps = 0..WATCHDOG_STEPS;
        let outcome = steps.find_map(|_| ended.recv_timeout(WATCHDOG_STEP).ok());
        let hung = outcome.is_none();
        let late = || {
            Err(format!(
                "no end within {:?}",
                WATCHDOG_STEP * WATCHDOG_STEPS
            ))
        };
        let outcome = outcome.unwrap_or_else(late);
        let (status, said) = match &outcome {
            Ok(said) => ("pass", said),
            Err(said) => ("fail", said),
        };
        self.failed += u32::from(outcome.is_err());
        self.say(name, status, start.elapsed(), said);
        if hung {
            std::process::exit(3);
        }
    }

    /// Records a test that cannot run here.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.say(name, "skip", Duration::ZERO, why);
    }

    /// Records that the tests could not even begin.
    pub fn fail(&mut self, why: &str) {
        self.failed += 1;
        self.say("begin", "fail", Duration::ZERO, why);
    }

    fn say(&self, test: &str, status: &'static str, time: Duration, said: &str) {
        let line = Line::Test {
            cell: &self.name,
            test,
            status,
            seconds: time.as_secs_f64(),
            said,
        };
        line.say();
    }

    /// Reports that everything was run. Returns whether nothing failed.
    #[must_use]
    pub fn end(self) -> bool {
        Line::End { cell: &self.name }.say();
        self.failed == 0
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", words.unwrap_or("without words"))
}
