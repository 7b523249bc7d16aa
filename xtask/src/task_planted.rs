//! Deliberately planted bugs, each of which its machine must find.
//!
//! A machine that finds nothing says something only if it would have found what is there. Each
//! `tests/planted/NAME.patch` breaks one line that matters; its first line says what is broken, its second
//! which machine finds it. The bugs are planted in a copy of the tree, never in the tree itself.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::run::wait;
use crate::task_device::FOLDER_VARIABLE;

const PATCHES: &str = "tests/planted";
/// The copy of the tree; beside it what each machine printed, and what cargo builds.
const FOLDER: &str = "target/planted";
const TREE: &str = "target/planted/tree";
/// A machine that has not ended so long after its time has hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// A build that takes longer has hung.
const BUILD_TIME: Duration = Duration::from_secs(1800);

struct Planted {
    name: String,
    what: String,
    machine: Machine,
    /// What follows `cargo xtask`.
    words: Vec<String>,
    path: PathBuf,
}

#[derive(Clone, Copy)]
enum Machine {
    Crash,
    Race,
    Loom,
    Device,
}

/// Characters of what a machine said that the table shows; the rest is in its file and in the JSON.
const SAID_MAX: usize = 100;

/// What a machine said of one bug.
struct Answer {
    found: bool,
    seconds: f64,
    said: String,
}

/// Plants each bug whose name contains the filter, and runs its machine: `[FILTER] [--seconds N] [--json]`.
///
/// # Errors
/// A bug that was not found, a patch that does not apply or build, or a filter that matches none.
pub(crate) fn run(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut filter, mut seconds, mut as_json) = (String::new(), 60, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => as_json = true,
            "--seconds" => {
                let number = args.next().unwrap_or_default();
                let bad = |why| format!("--seconds {number:?}: {why}");
                seconds = number.parse().map_err(bad)?;
            }
            option if option.starts_with('-') => return Err(format!("no such option: {option}")),
            _ => filter = arg,
        }
    }
    let mut bugs = all()?;
    bugs.retain(|bug| bug.name.contains(&filter));
    if bugs.is_empty() {
        return Err(format!("no planted bug has {filter:?} in its name"));
    }
    let mut missed = 0;
    let mut lines = Vec::new();
    for bug in &bugs {
        eprintln!("== {}: {}", bug.name, bug.what);
        refresh()?;
        let answer = plant(bug, seconds).unwrap_or_else(|why| Answer {
            found: false,
            seconds: 0.0,
            said: why,
        });
        missed += usize::from(!answer.found);
        lines.push(match as_json {
            true => answer.json(bug),
            false => answer.line(bug),
        });
    }
    refresh()?;
    lines.sort_unstable();
    if !as_json {
        lines.insert(0, row("bug", "machine", "found after", "it said"));
    }
    let text = lines.join("\n");
    writeln!(std::io::stdout(), "{text}").map_err(|why| why.to_string())?;
    match missed {
        0 => Ok(()),
        _ => Err(format!("{missed} of {} planted bugs not found", bugs.len())),
    }
}

/// Checks that each patch says what it must and still applies.
pub(crate) fn check(breaches: &mut Vec<String>) -> Result<(), String> {
    for path in patches()? {
        let shown = path.to_string_lossy();
        let applies = git(&["apply", "--check", &shown]).map(drop);
        let why = read(&path).map(drop).and(applies).err();
        breaches.extend(why.map(|why| format!("{shown}: {why}")));
    }
    Ok(())
}

fn patches() -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(PATCHES).map_err(|why| format!("{PATCHES}: {why}"))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|why| format!("{PATCHES}: {why}"))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|ext| ext == "patch"));
    paths.sort_unstable();
    Ok(paths)
}

fn all() -> Result<Vec<Planted>, String> {
    let each = |path: PathBuf| read(&path).map_err(|why| format!("{}: {why}", path.display()));
    patches()?.into_iter().map(each).collect()
}

fn read(path: &Path) -> Result<Planted, String> {
    let text = fs::read_to_string(path).map_err(|why| why.to_string())?;
    let mut lines = text.lines();
    let mut line = |mark| lines.next().and_then(|line| line.strip_prefix(mark));
    let what = line("# ").ok_or("its first line is not `# what is broken`")?;
    let command = line("# found by: cargo xtask ");
    let words = command.map(|command| command.split(' ').map(str::to_owned).collect());
    let words: Vec<String> = words.ok_or("its second line is not `# found by: cargo xtask …`")?;
    let machine = match words.first().map(String::as_str) {
        Some("crash") => Machine::Crash,
        Some("race") => Machine::Race,
        Some("loom") => Machine::Loom,
        Some("device-test") => Machine::Device,
        other => {
            return Err(format!(
                "{other:?} is none of crash, race, loom and device-test"
            ));
        }
    };
    Ok(Planted {
        name: path.file_stem().unwrap_or_default().display().to_string(),
        what: what.to_owned(),
        machine,
        words,
        path: path.to_path_buf(),
    })
}

/// Makes the copy equal to the tree, untouched where it is, so that little is built again.
fn refresh() -> Result<(), String> {
    let listed = git(&["ls-files", "-z", "-co", "--exclude-standard"])?;
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let to = Path::new(TREE).join(name);
        let failed = |why: std::io::Error| format!("{}: {why}", to.display());
        let Ok(bytes) = fs::read(name) else {
            // Listed, and deleted since.
            drop(fs::remove_file(&to));
            continue;
        };
        if fs::read(&to).is_ok_and(|copy| copy == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(failed)?;
        fs::write(&to, bytes).map_err(failed)?;
    }
    Ok(())
}

/// Plants the bug in the copy, builds its machine and runs it.
fn plant(bug: &Planted, seconds: u32) -> Result<Answer, String> {
    let directory = format!("--directory={TREE}");
    git(&["apply", &directory, &bug.path.to_string_lossy()])?;
    for line in ["build -p xtask", bug.machine.build()] {
        let mut build = cargo(line);
        if matches!(bug.machine, Machine::Loom) && !line.contains("xtask") {
            build.env("RUSTFLAGS", "--cfg rb_loom");
        }
        let built = run_to_files(&mut build, &bug.name, BUILD_TIME)?;
        if !built.0.is_some_and(|status| status.success()) {
            return Err(format!("it does not build: {}", built.1));
        }
    }
    let limit = match bug.machine {
        Machine::Crash => format!("--json --minutes {}", f64::from(seconds) / 60.0),
        Machine::Race => format!("--json --seconds {seconds}"),
        Machine::Loom => String::new(),
        Machine::Device => "--json".into(),
    };
    let mut machine = cargo("xtask");
    machine.args(&bug.words).args(limit.split_whitespace());
    let start = Instant::now();
    let time = Duration::from_secs(seconds.into()) + PATIENCE;
    let (status, output) = run_to_files(&mut machine, &bug.name, time)?;
    let seconds = start.elapsed().as_secs_f64();
    let violation = bug.machine.violation(&output);
    let (found, said) = match (status, violation) {
        (None, _) => (false, "it hung".to_owned()),
        (Some(status), Some(said)) => (!status.success(), said),
        (Some(status), None) => (false, format!("no violation, {status}")),
    };
    Ok(Answer {
        found,
        seconds,
        said,
    })
}

impl Machine {
    fn name(self) -> &'static str {
        match self {
            Machine::Crash => "crash",
            Machine::Race => "race",
            Machine::Loom => "loom",
            Machine::Device => "device",
        }
    }

    /// What the machine's own command would build first, which is not part of its time.
    fn build(self) -> &'static str {
        match self {
            Machine::Crash => "build --release -p rb-tests --bin crash",
            Machine::Race => "build -p rb-tests --bin race",
            Machine::Loom => "test -p rb-index --release --lib --target-dir target/loom --no-run",
            Machine::Device => "build -p rb-tests --bin device",
        }
    }

    /// What the machine says is wrong, if it does.
    fn violation(self, output: &str) -> Option<String> {
        let mut reports = output
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let said = match self {
            Machine::Crash => reports.find_map(|report| text(&report["violation"])),
            Machine::Race => reports.find_map(|report| text(&report["violations"][0])),
            Machine::Device => reports
                .find(|report| report["status"] == "fail")
                .and_then(|test| text(&test["said"])),
            // The line after the place of the panic.
            Machine::Loom => {
                let mut lines = output.lines();
                lines.find(|line| line.contains("panicked at"))?;
                lines.next().map(str::to_owned)
            }
        };
        Some(said?.lines().next()?.to_owned())
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

impl Answer {
    fn json(&self, bug: &Planted) -> String {
        json!({
            "bug": bug.name,
            "what": bug.what,
            "machine": bug.machine.name(),
            "found": self.found,
            "seconds": self.seconds,
            "said": self.said,
        })
        .to_string()
    }

    fn line(&self, bug: &Planted) -> String {
        let after = match self.found {
            true => format!("{:.1} s", self.seconds),
            false => "NOT FOUND".to_owned(),
        };
        row(&bug.name, bug.machine.name(), &after, &self.said)
    }
}

fn row(bug: &str, machine: &str, after: &str, said: &str) -> String {
    let said: String = said.chars().take(SAID_MAX).collect();
    format!("{bug:28} {machine:8} {after:>11}  {said}")
}

/// Cargo in the copy, with a target folder that all bugs share.
fn cargo(line: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    let here = std::env::current_dir().unwrap_or_default();
    command.args(line.split(' ')).current_dir(TREE);
    command.env("CARGO_TARGET_DIR", here.join(FOLDER).join("target"));
    // What was fetched for the machines is no part of the tree.
    command.env(FOLDER_VARIABLE, here.join("target/device-lab"));
    command
}

/// Runs a command of a bug until it ends or the time is over, and reads what it printed; it stays in a file
/// for who wants to see more.
fn run_to_files(
    command: &mut Command,
    name: &str,
    time: Duration,
) -> Result<(Option<ExitStatus>, String), String> {
    let path = Path::new(FOLDER).join(format!("{name}.txt"));
    let failed = |why: std::io::Error| format!("{}: {why}", path.display());
    let out = fs::File::create(&path).map_err(failed)?;
    let err = out.try_clone().map_err(failed)?;
    // A group of its own, for the machine is a child of cargo's child.
    let mut child = command
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let status = wait(&mut child, time).map_err(failed)?;
    let output = fs::read(&path).map_err(failed)?;
    Ok((status, String::from_utf8_lossy(&output).into_owned()))
}

fn git(args: &[&str]) -> Result<String, String> {
    let output = Command::new("git").args(args).output();
    let output = output.map_err(|why| format!("git: {why}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
