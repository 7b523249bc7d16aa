//! Coverage-guided fuzzing on the stable toolchain.
//!
//! Combines the compiler's own coverage pass with libFuzzer, as cargo-fuzz does with `--sanitizer none`: the code under
//! test has no unsafe code that a sanitizer could watch, and checked arithmetic is on.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use clap::Args;
use serde_json::json;

use crate::run::{cargo_output, cargo_with};

/// The flags of cargo-fuzz without a sanitizer: counters at every edge, and traced comparisons.
const FLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1";

/// Memory limit of libFuzzer without the target: corpus, tables, the binary. The target checks its own bound after each
/// input.
const RSS_LIMIT_MB: u64 = 1024;
/// An input that takes longer has hung.
const TIMEOUT_S: u64 = 20;
/// Maximum length of an input: longer ones would only be slower.
const LEN_MAX: u64 = 8192;

/// The options of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Targets to fuzz, separated by commas: folders of fuzz/corpus, or all.
    #[arg(
        required = true,
        value_name = "TARGET[,TARGET]|all",
        value_delimiter = ','
    )]
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Number of targets that run at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Print one line of JSON for each target.
    #[arg(long)]
    json: bool,
    /// Add found inputs that reach new edges to the corpus in the tree; fuzz nothing.
    #[arg(long, conflicts_with = "repeat")]
    keep: bool,
    /// Run only the input in this file.
    #[arg(long, value_name = "FILE")]
    repeat: Option<PathBuf>,
    /// Limit of the address space of each process in MiB; by default there is no limit.
    #[arg(long, value_name = "MIB")]
    memory_limit: Option<u64>,
}

/// Builds the fuzzer and runs it as the options say.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let targets = chosen(&options.targets)?;
    let program = build()?;
    if let Some(file) = &options.repeat {
        return finished(command(&program, &targets[0], options.memory_limit).arg(file));
    }
    let waiting = Mutex::new(targets.iter());
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                let next = || waiting.lock().ok()?.next();
                while let Some(target) = next() {
                    let done = match options.keep {
                        true => keep(&program, target),
                        false => fuzz(&program, target, options),
                    };
                    if let (Err(why), Ok(mut failures)) = (done, failures.lock()) {
                        eprintln!("fuzz: {why}");
                        failures.push(target.clone());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(format!("failed: {}", failures.join(", "))),
    }
}

/// Returns the selected targets.
fn chosen(asked: &[String]) -> Result<Vec<String>, String> {
    let known = targets()?;
    if asked == ["all"] {
        return Ok(known);
    }
    if let Some(target) = asked.iter().find(|target| !known.contains(target)) {
        let known = known.join(", ");
        return Err(format!("no such target: {target:?}; there are {known}"));
    }
    Ok(asked.to_vec())
}

/// Returns all targets: each has a folder of seeds.
fn targets() -> Result<Vec<String>, String> {
    let entries = fs::read_dir("fuzz/corpus").map_err(|why| format!("fuzz/corpus: {why}"))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn build() -> Result<PathBuf, String> {
    // With a target triple given, the flags apply only to the fuzzer, not to build scripts and
    // macros.
    let version = cargo_output(&["-vV"])?;
    let version = String::from_utf8_lossy(&version);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("cargo -vV names no host")?;
    let args = [
        "build",
        "-p",
        "rb-fuzz",
        "--features",
        "libfuzzer",
        "--bin",
        "rb-fuzz",
        "--release",
        "--target",
        host,
        "--target-dir",
        "target/fuzz",
    ];
    cargo_with(&args, &[("RUSTFLAGS", FLAGS)])?;
    Ok(Path::new("target/fuzz").join(host).join("release/rb-fuzz"))
}

/// Returns the command that runs a target. With a limit, the allocator returns an error when memory runs out, as in a
/// container or under `ulimit -v`: code that then aborts is a failure.
fn command(program: &Path, target: &str, memory_limit_mib: Option<u64>) -> Command {
    let mut command = match memory_limit_mib {
        None => Command::new(program),
        Some(mib) => {
            let mut shell = Command::new("sh");
            let limited = "ulimit -v \"$0\" && exec \"$@\"";
            shell.args(["-c", limited]).arg((mib * 1024).to_string());
            shell.arg(program);
            shell
        }
    };
    command
        .env("RB_FUZZ_TARGET", target)
        .arg(format!("-timeout={TIMEOUT_S}"))
        .arg(format!("-rss_limit_mb={RSS_LIMIT_MB}"))
        .arg(format!("-malloc_limit_mb={RSS_LIMIT_MB}"))
        .arg(format!("-max_len={LEN_MAX}"));
    command
}

fn finished(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|why| why.to_string())?;
    status.success().then_some(()).ok_or(status.to_string())
}

/// Returns the folders of a target: seeds in the tree, found inputs, failed inputs.
fn folders(target: &str) -> Result<[PathBuf; 3], String> {
    let seeds = Path::new("fuzz/corpus").join(target);
    let work = Path::new("target/fuzz");
    let folders = [
        seeds,
        work.join("corpus").join(target),
        work.join("failed").join(target),
    ];
    for folder in &folders {
        fs::create_dir_all(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    }
    Ok(folders)
}

/// Runs one target and prints the result.
fn fuzz(program: &Path, target: &str, options: &Options) -> Result<(), String> {
    let [seeds, found, failed] = folders(target)?;
    let before = inputs(&failed);
    let mut child = command(program, target, options.memory_limit)
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-artifact_prefix={}/", failed.display()))
        .args(["-print_final_stats=1"])
        .args([&found, &seeds])
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| why.to_string())?;
    let mut report = Report::default();
    let output = child.stderr.take().ok_or("no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|why| why.to_string())?;
        report.read(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().map_err(|why| why.to_string())?;
    let new: Vec<_> = inputs(&failed)
        .into_iter()
        .filter(|file| !before.contains(file))
        .collect();
    report.print(target, options.json, &new);
    if status.success() && new.is_empty() {
        return Ok(());
    }
    for line in &report.failure {
        eprintln!("   {line}");
    }
    for file in &new {
        eprintln!("   cargo xtask fuzz {target} --repeat {}", file.display());
    }
    Err(format!("{target}: {status}"))
}

fn inputs(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

/// Copies found inputs into the tree if they reach edges that the tree's inputs do not. How often an edge is taken does
/// not count here: the tree would fill with files that differ only in that.
fn keep(program: &Path, target: &str) -> Result<(), String> {
    let [seeds, found, _] = folders(target)?;
    let rules = ["-set_cover_merge=1", "-use_counters=0"];
    finished(
        command(program, target, None)
            .args(rules)
            .args([&seeds, &found]),
    )
}

/// Figures that libFuzzer printed.
#[derive(Default)]
struct Report {
    executions: u64,
    per_second: u64,
    peak_rss_mb: u64,
    corpus: String,
    coverage_first: u64,
    coverage: u64,
    failure: Vec<String>,
}

impl Report {
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).copied()
        };
        let number = |name: &str| after(name).and_then(|word| word.parse::<u64>().ok());
        self.executions = number("stat::number_of_executed_units:").unwrap_or(self.executions);
        self.per_second = number("stat::average_exec_per_sec:").unwrap_or(self.per_second);
        self.peak_rss_mb = number("stat::peak_rss_mb:").unwrap_or(self.peak_rss_mb);
        if let Some(coverage) = number("cov:") {
            self.coverage = coverage;
            if words.contains(&"INITED") {
                self.coverage_first = coverage;
            }
        }
        if let Some(corpus) = after("corp:") {
            corpus.clone_into(&mut self.corpus);
        }
        let fails = ["panicked at", "ERROR: libFuzzer", "memory allocation of"];
        let fails = fails.iter().any(|words| line.contains(words));
        if fails || (!self.failure.is_empty() && self.failure.len() < 12) {
            self.failure.push(line.to_owned());
        }
    }

    #[expect(clippy::print_stdout, reason = "the result of the task")]
    fn print(&self, target: &str, json: bool, failed: &[PathBuf]) {
        let Report {
            executions,
            per_second,
            peak_rss_mb,
            corpus,
            coverage_first,
            coverage,
            ..
        } = self;
        if json {
            let failed: Vec<_> = failed.iter().map(|file| file.to_string_lossy()).collect();
            let line = json!({
                "target": target, "executions": executions, "per_second": per_second,
                "peak_rss_mb": peak_rss_mb, "corpus": corpus,
                "coverage_first": coverage_first, "coverage": coverage, "failed": failed,
            });
            println!("{line}");
            return;
        }
        println!(
            "{target}: {executions} executions, {per_second}/s, corpus {corpus}, coverage \
             {coverage_first} -> {coverage} edges, peak RSS {peak_rss_mb} MB, {} failed",
            failed.len()
        );
    }
}
