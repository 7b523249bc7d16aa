//! Process death on the real path: a child works on a file store and is killed at random moments; the
//! parent reopens the store and checks everything that was acknowledged and synced (C1 to C3).
//!
//! The child says what it is about to do, and what came of it, through a pipe (`lines.rs`). What was said
//! survives the kill, so the parent's oracle knows for each key what it may hold. The store goes on over
//! many kills. A killed process loses its memory, not what it has given to the kernel: this says nothing
//! about flushes, which the simulated crashes do.

mod check;
mod child;
mod keys;
mod lines;
mod oracle;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rb_core::{EngineKind, FormatOptions, format};
use rb_testkit::values::next_number;
use serde::Serialize;

pub use child::{ChildOptions, child};

use crate::tally::{Report, words};
use check::check;
use keys::classes;
use lines::Line;
use oracle::Oracle;

/// How a run is made.
#[derive(Clone, Debug)]
pub struct KillOptions {
    /// The program that runs [`child`] when given [`child_args`].
    pub program: PathBuf,
    /// Where the store is; none: in a file of a folder of its own. What is there is lost.
    pub store: Option<PathBuf>,
    /// How many kills.
    pub rounds: u64,
    /// The longest life of a child, in milliseconds; [`LIFE_MS`] where the machine is not a slow one.
    pub life_ms: u64,
    /// The store's engine.
    pub engine: EngineKind,
    /// Decides what is done, and when the kill comes; the machine decides what that moment hits.
    pub seed: u64,
}

/// A child's longest life, in milliseconds: some openings, some work, some closes.
pub const LIFE_MS: u64 = 250;
/// About as long as a close takes, in milliseconds.
const CLOSE_MS: u64 = 6;

/// What a run came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KillReport {
    /// The engine.
    pub engine: String,
    /// The seed.
    pub seed: u64,
    /// Kills.
    pub rounds: u64,
    /// Kills before the child's first word, and while it opened the store.
    pub killed_opening: u64,
    /// Kills while it worked.
    pub killed_serving: u64,
    /// Kills while it closed or dropped the store.
    pub killed_closing: u64,
    /// Openings by the child that got as far as serving.
    pub openings: u64,
    /// Times the store was made anew over the old one.
    pub formats: u64,
    /// Puts and removes acknowledged, key by key.
    pub acknowledged: u64,
    /// Of these, covered by a sync, an answer that promised durability, or a close.
    pub synced: u64,
    /// Entries evicted, as the child said.
    pub evicted: u64,
    /// Keys read after a kill.
    pub verified: u64,
    /// Of these, keys that may hold exactly one thing.
    pub exact: u64,
    /// Keys missing that a put under way may have evicted before it could say so.
    pub perhaps_evicted: u64,
    /// Keys missing though they were synced.
    pub lost: u64,
    /// Keys with bytes that were never put for them.
    pub wrong: u64,
    /// Keys that were removed or replaced, and are back.
    pub resurrected: u64,
    /// Anything that must not be, in words, and how to repeat it. The run ends with the first round that has any.
    pub violations: Vec<String>,
}

impl Report for KillReport {
    fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for KillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} kills ({} opening, {} serving, {} closing), {} openings, {} formats; \
             {} acknowledged, {} synced, {} evicted; {} keys verified, {} of them exact, {} perhaps evicted; \
             {} lost, {} wrong, {} resurrected; seed {}",
            self.engine,
            self.rounds,
            self.killed_opening,
            self.killed_serving,
            self.killed_closing,
            self.openings,
            self.formats,
            self.acknowledged,
            self.synced,
            self.evicted,
            self.verified,
            self.exact,
            self.perhaps_evicted,
            self.lost,
            self.wrong,
            self.resurrected,
            self.seed
        )?;
        let mut lines = self.violations.iter();
        lines.try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// The arguments that make the program run the child.
#[must_use]
pub fn child_args(options: &ChildOptions) -> Vec<String> {
    vec![
        "child".into(),
        options.store.display().to_string(),
        options.engine.to_string(),
        options.seed.to_string(),
        options.first_version.to_string(),
    ]
}

/// Reads [`child_args`] back; none if they are not such.
#[must_use]
pub fn child_options(args: &[String]) -> Option<ChildOptions> {
    match args {
        [word, store, engine, seed, first_version] if word == "child" => Some(ChildOptions {
            store: store.into(),
            engine: engine.parse().ok()?,
            seed: seed.parse().ok()?,
            first_version: first_version.parse().ok()?,
        }),
        _ => None,
    }
}

/// Kills a child again and again. `seen` is shown the report after each round.
///
/// # Errors
/// When the store cannot be made or the child not be started. What must not be is in the report.
pub fn run(options: &KillOptions, seen: &mut dyn FnMut(&KillReport)) -> Result<KillReport, String> {
    let dir = tempfile::tempdir().map_err(|why| format!("a folder for the store: {why}"))?;
    let mut run = Run {
        options,
        path: options.store.clone().unwrap_or(dir.path().join("store")),
        state: options.seed,
        oracle: Oracle::new(),
        report: KillReport {
            engine: options.engine.to_string(),
            seed: options.seed,
            ..KillReport::default()
        },
    };
    for round in 0..options.rounds {
        run.round(round)?;
        seen(&run.report);
        if !run.report.violations.is_empty() {
            break;
        }
    }
    Ok(run.report)
}

struct Run<'a> {
    options: &'a KillOptions,
    path: PathBuf,
    state: u64,
    oracle: Oracle,
    report: KillReport,
}

impl Run<'_> {
    fn random(&mut self, below: u64) -> u64 {
        next_number(&mut self.state) % below
    }

    /// Perhaps a new store, a child's life, its end, and the check.
    fn round(&mut self, round: u64) -> Result<(), String> {
        if round == 0 || self.random(20) == 0 {
            self.format()?;
        }
        let child = ChildOptions {
            store: self.path.clone(),
            engine: self.options.engine,
            seed: self.random(u64::MAX),
            first_version: (round + 1) << 20,
        };
        // A close is soon over: now and then the kill waits for one to begin.
        let (moment, micros) = match self.random(6) {
            0 => (Moment::Closing, CLOSE_MS * 1000),
            _ => (Moment::Started, self.options.life_ms * 1000),
        };
        let after = Duration::from_micros(self.random(micros));
        let said = live_and_die(&self.options.program, &child, moment, after)?;
        self.report.rounds += 1;
        let mut violations = self.hear(&said);
        let after = self.random(3);
        violations.extend(check(
            &self.path,
            self.options.engine,
            after,
            &mut self.oracle,
            &mut self.report,
        ));
        let oracle = &self.oracle;
        self.report.acknowledged = oracle.acknowledged;
        self.report.synced = oracle.synced;
        self.report.evicted = oracle.evicted;
        if !violations.is_empty() {
            let kept = keep(&self.path, &said, self.options, round);
            violations.push(format!(
                "repeat with `cargo xtask kill --engine {} --seed {} --rounds {}`; the store and what the child said: {kept}",
                self.options.engine, self.options.seed, round + 1
            ));
        }
        self.report.violations.extend(violations);
        Ok(())
    }

    /// Makes the store anew; what is there stays on the device under another identity.
    fn format(&mut self) -> Result<(), String> {
        let log_blocks = [64, 256][self.random(2) as usize];
        format(&FormatOptions {
            key_len_max: 64,
            log_bytes: Some(log_blocks * rb_format::FORMAT_BLOCK as u64),
            sparse: self.random(2) == 0,
            consent: true,
            ..FormatOptions::new(&self.path, classes())
        })
        .map_err(|why| words(&why))?;
        self.report.formats += 1;
        let none: Vec<_> = (0..keys::KEYS).map(|key| (key, None)).collect();
        self.oracle.found(&none);
        Ok(())
    }

    /// Takes in what the child said. Answers what must not be.
    fn hear(&mut self, said: &[String]) -> Vec<String> {
        let mut violations = Vec::new();
        let mut phase = Line::Opening;
        for text in said {
            match text.parse::<Line>() {
                Ok(line) => {
                    violations.extend(self.oracle.hear(&line).err());
                    self.report.openings += u64::from(line == Line::Serving);
                    if matches!(line, Line::Opening | Line::Serving | Line::Closing) {
                        phase = line;
                    }
                }
                Err(why) => violations.push(why),
            }
        }
        match phase {
            Line::Opening => self.report.killed_opening += 1,
            Line::Serving => self.report.killed_serving += 1,
            _ => self.report.killed_closing += 1,
        }
        violations
    }
}

/// From when on a child's time to live counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Started,
    /// Its first close began.
    Closing,
}

/// Starts a child and kills it (SIGKILL) so long `after` the moment. Answers the whole lines that it said.
fn live_and_die(
    program: &Path,
    options: &ChildOptions,
    moment: Moment,
    after: Duration,
) -> Result<Vec<String>, String> {
    let mut child = Command::new(program)
        .args(child_args(options))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|why| format!("{}: {why}", program.display()))?;
    let stdout = child.stdout.take().ok_or("the child has no output")?;
    // It must be read while the child lives, or a full pipe would stop the child.
    let (sender, closing) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut input = BufReader::new(stdout);
        let mut said = Vec::new();
        let mut line = String::new();
        while input.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            if let Some(whole) = line.strip_suffix('\n') {
                if whole.parse() == Ok(Line::Closing) {
                    // Only the first is waited for, and that not always.
                    let _ = sender.send(());
                }
                said.push(whole.to_owned());
            }
            line.clear();
        }
        said
    });
    if moment == Moment::Closing {
        // A child that found something that must not be ends by itself.
        let _ = closing.recv_timeout(Duration::from_secs(10));
    }
    std::thread::sleep(after);
    let killed = child.kill().and_then(|()| child.wait());
    killed.map_err(|why| format!("killing the child: {why}"))?;
    reader
        .join()
        .map_err(|_| "the reader of the child panicked".into())
}

/// Keeps the store and what the child said for whoever looks into a violation. Answers where.
fn keep(store: &Path, said: &[String], options: &KillOptions, round: u64) -> String {
    let name = format!("raw-block-kill-{}-{}-{round}", options.engine, options.seed);
    let folder = std::env::temp_dir().join(name);
    let kept = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::copy(store, folder.join("store")))
        .and_then(|_| std::fs::write(folder.join("said"), said.join("\n")));
    match kept {
        Ok(()) => folder.display().to_string(),
        Err(why) => format!("could not be kept ({why})"),
    }
}
