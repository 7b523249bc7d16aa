//! Runs the programs, each with its output in a file, and shows which one runs.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::environments::{Door, PROGRAMS};
use super::results::Results;
use crate::run::wait;

const TICK: Duration = Duration::from_millis(200);

/// Number of lines of the output that are printed if a program fails.
const TAIL: usize = 40;

pub(super) struct Runner<'a> {
    pub(super) door: &'a Door,
    filter: &'a str,
    logs: PathBuf,
    /// Folder of the modules that Python has compiled.
    compiled: PathBuf,
    results: Results,
}

impl<'a> Runner<'a> {
    pub(super) fn new(door: &'a Door, filter: &'a str, results: Results) -> Result<Self, String> {
        let logs = door.folder.join("logs");
        std::fs::create_dir_all(&logs).map_err(|why| format!("{}: {why}", logs.display()))?;
        let compiled = std::path::absolute(door.folder.join("compiled"));
        Ok(Runner {
            door,
            filter,
            logs,
            compiled: compiled.map_err(|why| why.to_string())?,
            results,
        })
    }

    pub(super) fn wants(&self, step: &str) -> bool {
        step.contains(self.filter)
    }

    /// Runs a program of the folder of programs. It reports its own steps.
    pub(super) fn program(
        &mut self,
        step: &str,
        python: &Path,
        program: &str,
        args: &[&str],
        limit: Duration,
    ) -> Result<(), String> {
        if !self.wants(step) {
            return Ok(());
        }
        let mut command = Command::new(python);
        command.arg(format!("{PROGRAMS}/{program}.py")).args(args);
        let began = Instant::now();
        let (why, output) = self.finish_within(step, &mut command, limit)?;
        let reported = self.results.take(&output);
        let why = match (why, reported) {
            (None, 0) => Some("it reported nothing".into()),
            (why, _) => why,
        };
        if let Some(why) = why {
            let seconds = began.elapsed().as_secs_f64();
            self.results.add(step, "fail", &why, seconds);
        }
        Ok(())
    }

    /// Runs a command as one step, and returns whether it ended well.
    pub(super) fn command(
        &mut self,
        step: &str,
        command: &mut Command,
        figure: &str,
        limit: Duration,
    ) -> Result<bool, String> {
        let began = Instant::now();
        let (why, _) = self.finish_within(step, command, limit)?;
        let seconds = began.elapsed().as_secs_f64();
        match &why {
            None => self.results.add(step, "pass", figure, seconds),
            Some(why) => self.results.add(step, "fail", why, seconds),
        }
        Ok(why.is_none())
    }

    pub(super) fn skip(&mut self, step: &str, why: &str) {
        if self.wants(step) {
            self.results.add(step, "skip", why, 0.0);
        }
    }

    pub(super) fn fail(&mut self, step: &str, why: &str) {
        self.results.add(step, "fail", why, 0.0);
    }

    pub(super) fn finish(self) -> Results {
        self.results
    }

    /// Returns why a command did not end well, and its output.
    fn finish_within(
        &self,
        step: &str,
        command: &mut Command,
        limit: Duration,
    ) -> Result<(Option<String>, String), String> {
        let log = self.logs.join(format!("{}.log", step.replace('/', "-")));
        let file = File::create(&log).map_err(|why| format!("{}: {why}", log.display()))?;
        let errors = file.try_clone().map_err(|why| why.to_string())?;
        let spinner = ProgressBar::new_spinner().with_message(step.to_owned());
        spinner.enable_steady_tick(TICK);
        let began = Instant::now();
        let mut child = command
            // The engines are large: each process would compile them again.
            .env_remove("PYTHONDONTWRITEBYTECODE")
            .env("PYTHONPYCACHEPREFIX", &self.compiled)
            .process_group(0)
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(|why| format!("{command:?}: {why}"))?;
        let status = wait(&mut child, limit).map_err(|why| why.to_string())?;
        spinner.finish_and_clear();
        eprintln!("== {step}: {:.1} s", began.elapsed().as_secs_f64());
        let bytes = std::fs::read(&log).unwrap_or_default();
        let output = String::from_utf8_lossy(&bytes).into_owned();
        let shown = log.display();
        let why = match status {
            Some(status) if status.success() => None,
            Some(status) => Some(format!("{status}, see {shown}")),
            None => Some(format!("not ended after {limit:?}, see {shown}")),
        };
        if why.is_some() {
            let lines: Vec<&str> = output.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("{}", tail.join("\n"));
        }
        Ok((why, output))
    }
}
