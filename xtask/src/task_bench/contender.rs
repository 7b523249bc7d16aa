//! The contenders, and one measurement of one of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::case::Case;
use super::fio::Fio;
use super::program::run;
use super::target::Target;

/// Values per call of the store's async form.
const BATCH: u64 = 4;
/// Default of the store, used if `rb bench` does not report its flush interval.
const SYNC_INTERVAL_MS: f64 = 50.0;

/// The programs to measure; deselected peers are absent.
pub(super) struct Programs {
    pub(super) rb: PathBuf,
    pub(super) foyer: Option<PathBuf>,
    /// A Python that has the wheel.
    pub(super) wheel: Option<PathBuf>,
    /// A Python that has all of LMCache.
    pub(super) lmcache: Option<PathBuf>,
    pub(super) fio: bool,
}

/// A store or program that is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Contender {
    /// This store, in calls of a few values, as a block cache makes them.
    Ours,
    OursOnes,
    OursBlocking,
    FioUring,
    FioPsync,
    FoyerUring,
    FoyerPsync,
    Wheel,
    Core,
}

impl Contender {
    /// Returns the contenders in the order of a round: this store first, because fio repeats its flushes.
    pub(super) fn all(programs: &Programs) -> Vec<Contender> {
        use Contender::{
            Core, FioPsync, FioUring, FoyerPsync, FoyerUring, Ours, OursBlocking, OursOnes, Wheel,
        };
        let mut all = vec![Ours, OursOnes, OursBlocking];
        all.extend([FioUring, FioPsync].into_iter().filter(|_| programs.fio));
        let foyer = programs.foyer.is_some();
        all.extend([FoyerUring, FoyerPsync].into_iter().filter(|_| foyer));
        all.extend(programs.wheel.iter().map(|_| Wheel));
        all.extend(programs.lmcache.iter().map(|_| Core));
        all
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Contender::Ours => "ours",
            Contender::OursOnes => "ours, calls of 1",
            Contender::OursBlocking => "ours, blocking",
            Contender::FioUring => "fio io_uring",
            Contender::FioPsync => "fio psync",
            Contender::FoyerUring => "foyer io_uring",
            Contender::FoyerPsync => "foyer psync",
            Contender::Wheel => "lmcache wheel",
            Contender::Core => "lmcache core",
        }
    }
}

/// Parameters of one measurement, except the contender.
pub(super) struct Run<'a> {
    pub(super) programs: &'a Programs,
    pub(super) target: &'a Target,
    pub(super) case: &'a Case,
    pub(super) seconds: f64,
    /// The result of this store in this round.
    pub(super) ours: Option<&'a Value>,
}

impl Run<'_> {
    /// Measures one contender; the result has at least the compared fields of `rb bench`.
    pub(super) fn measure(&self, contender: Contender) -> Result<Value, String> {
        let fio = |engine| Fio {
            engine,
            case: self.case,
            file: &self.target.peers,
            seconds: self.seconds,
            sync_interval_ms: self.sync_interval_ms(),
        };
        match contender {
            Contender::Ours => self.ours_async(self.case.depth.min(BATCH)),
            Contender::OursOnes => self.ours_async(1),
            Contender::OursBlocking => {
                self.ours(&["--blocking", "--batch", &self.case.depth.to_string()])
            }
            Contender::FioUring => fio("io_uring").measure(),
            Contender::FioPsync => fio("psync").measure(),
            Contender::FoyerUring => self.foyer("io_uring"),
            Contender::FoyerPsync => self.foyer("psync"),
            Contender::Wheel => self.python(self.programs.wheel.as_ref(), "lmcache_wheel.py"),
            Contender::Core => self.python(self.programs.lmcache.as_ref(), "lmcache_core.py"),
        }
    }

    fn ours_async(&self, batch: u64) -> Result<Value, String> {
        let (depth, batch) = (self.case.depth.to_string(), batch.to_string());
        self.ours(&["--depth", &depth, "--batch", &batch])
    }

    fn ours(&self, words: &[&str]) -> Result<Value, String> {
        let mut command = Command::new(&self.programs.rb);
        command.arg("bench");
        self.load(&mut command, "--store", &self.target.ours);
        // The file is the benchmark's own: filled with noise, or formatted earlier for another
        // value size.
        command.args(["--threads", "1", "--engine", "io_uring", "--json", "--yes"]);
        self.json(command.args(words))
    }

    fn foyer(&self, engine: &str) -> Result<Value, String> {
        let program = self.programs.foyer.as_ref().ok_or("foyer was not built")?;
        let mut command = Command::new(program);
        self.load(&mut command, "--file", &self.target.peers);
        command.args(["--engine", engine]);
        self.json(command.args(["--depth", &self.case.depth.to_string()]))
    }

    fn python(&self, python: Option<&PathBuf>, script: &str) -> Result<Value, String> {
        let python = python.ok_or("Python was not set up")?;
        let mut command = Command::new(python);
        // Keep compiled files out of the source folder.
        command
            .arg("-B")
            .arg(Path::new("benches/peers").join(script));
        self.load(&mut command, "--file", &self.target.peers);
        self.json(command.args(["--batch", &self.case.depth.to_string()]))
    }

    /// Adds the arguments that all programs share.
    fn load(&self, command: &mut Command, place: &str, path: &Path) {
        command
            .arg(place)
            .arg(path)
            .args(["--op", self.case.op.name()]);
        command.args(["--value-bytes", &self.case.value_bytes.to_string()]);
        command.args(["--seconds", &self.seconds.to_string()]);
    }

    /// Runs a program whose last line of output is the JSON result.
    fn json(&self, command: &mut Command) -> Result<Value, String> {
        let (output, _) = run(command, self.seconds)?;
        let line = output.lines().last().unwrap_or_default();
        serde_json::from_str(line).map_err(|why| format!("no result: {line:?}: {why}"))
    }

    /// Returns the time between two flushes of this store.
    fn sync_interval_ms(&self) -> f64 {
        let said = self.ours.and_then(|ours| ours["sync_interval_ms"].as_f64());
        said.filter(|interval| *interval > 0.0)
            .unwrap_or(SYNC_INTERVAL_MS)
    }
}
