//! Measures the store and its peers on the same files, in turn, under the same load.
//!
//! Speed is always reported as a ratio to a peer in the same round: the speed of the machine's disk changes from minute
//! to minute. `benches/peers` holds the programs that run the peers.

mod case;
mod contender;
mod fio;
mod options;
mod program;
mod report;
mod setup;
mod summary;
mod target;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use case::{Case, Op};
use contender::{Contender, Programs, Run};
pub(crate) use options::Options;
use options::Where;
use program::FOLDER;
use summary::Rounds;
use target::{Kind, Target};

use crate::run::cargo;

/// Maximum bytes of a file in memory: far more than caches hold, and quickly written.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// Measures the selected cases, prints the table or the JSON, and writes both and an HTML page to target/bench.
///
/// # Errors
/// If an option is bad, a build fails, or a contender fails or serves wrong bytes.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    options.check()?;
    match options.target {
        Where::Null => cargo(&[
            "run",
            "--release",
            "-p",
            "rb-bench",
            "--bin",
            "async_profile",
        ]),
        Where::Background => background(options),
        Where::All | Where::Disk | Where::Loop | Where::Tmpfs => against_peers(options),
    }
}

/// Measures what the store's background work adds to gets. A separate program: no peer can use its simulated drive.
fn background(options: &Options) -> Result<(), String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        words.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    };
    add("--service", options.service.clone());
    add("--rounds", options.rounds.map(|rounds| rounds.to_string()));
    add(
        "--seconds",
        options.seconds.map(|seconds| seconds.to_string()),
    );
    words.extend(options.json.then(|| "--json".to_owned()));
    let program = "run --release -p rb-bench --bin background_profile --";
    let words = words.iter().map(String::as_str);
    cargo(&program.split(' ').chain(words).collect::<Vec<_>>())
}

fn against_peers(options: &Options) -> Result<(), String> {
    let cases = cases(&options.filter)?;
    fs::create_dir_all(FOLDER).map_err(|why| format!("{FOLDER}: {why}"))?;
    let programs = setup::programs(options)?;
    let checksums = setup::checksum_cold(&cases)?;
    let (all, failures) = measure_all(options, &programs, &cases);
    publish(options, &programs, &checksums, &all, &failures)?;
    failures
        .iter()
        .for_each(|failure| eprintln!("bench: {failure}"));
    match failures.len() {
        0 => Ok(()),
        count => Err(format!("{count} measurements failed")),
    }
}

/// Measures each case on each kind of target. Also returns the failures.
fn measure_all(
    options: &Options,
    programs: &Programs,
    cases: &[Case],
) -> (Vec<Rounds>, Vec<String>) {
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    for kind in options.kinds() {
        // All slots of a store have one size, so the cases of one value size share a target.
        for same_size in cases.chunk_by(|one, other| one.value_bytes == other.value_bytes) {
            let bytes = match kind {
                Kind::Disk => options.file_bytes(),
                Kind::Loop | Kind::Tmpfs => options.file_bytes().min(MEMORY_BYTES_MAX),
            };
            let target = match Target::make(*kind, &options.dir, bytes) {
                Ok(target) => target,
                Err(why) => {
                    failures.push(format!("{}: {why}", kind.name()));
                    continue;
                }
            };
            for case in same_size {
                let rounds = measure(options, programs, *kind, &target, case, &mut failures);
                all.push(rounds);
            }
        }
    }
    (all, failures)
}

/// Writes JSON, table and page to target/bench, and prints the table or the JSON.
fn publish(
    options: &Options,
    programs: &Programs,
    checksums: &[Value],
    all: &[Rounds],
    failures: &[String],
) -> Result<(), String> {
    let mut remarks: Vec<String> = checksums
        .iter()
        .map(|line| {
            let figure = |name: &str| line[name].as_f64().unwrap_or_default();
            format!(
                "The checksum of values of {} bytes that are in no cache takes {:.3} s of CPU time for each GB \
                 [{:.3}–{:.3}].",
                line["value_bytes"],
                figure("checksum_cold_s_per_gb"),
                figure("min"),
                figure("max")
            )
        })
        .collect();
    remarks.push(format!(
        "{} rounds of {} s; medians, least and greatest; ratios are medians of the ratios within a round. \
         ×fio is against fio with io_uring; of the CPU once by its own account and once by that of its process, \
         which has the kernel's helper threads too.",
        options.rounds(),
        options.seconds()
    ));
    let facts = facts(options, programs);
    let lines: Vec<Value> = all.iter().flat_map(Rounds::json).collect();
    let json =
        json!({ "checksum_cold": checksums, "lines": lines, "failures": failures }).to_string();
    let tables: String = all
        .iter()
        .map(|rounds| report::table(rounds) + "\n")
        .collect();
    let text = format!("{tables}{}", remarks.join("\n"));
    for (name, content) in [
        ("report.json", &json),
        ("report.txt", &text),
        ("report.html", &report::page(all, &facts, &remarks)),
    ] {
        let path = format!("{FOLDER}/{name}");
        fs::write(&path, content).map_err(|why| format!("{path}: {why}"))?;
    }
    let shown = if options.json { json } else { text };
    writeln!(std::io::stdout(), "{shown}").map_err(|why| why.to_string())?;
    eprintln!("== {FOLDER}/report.html");
    Ok(())
}

/// Returns the versions of the programs and the storage of the target disk.
fn facts(options: &Options, programs: &Programs) -> Vec<(&'static str, String)> {
    let version = |program: &Path| {
        let output = Command::new(program).arg("--version").output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.filter(|text| !text.is_empty())
            .unwrap_or_else(|| "unknown".to_owned())
    };
    let mut facts = vec![("version", version(&programs.rb))];
    if programs.fio {
        facts.push(("fio", version(Path::new("fio"))));
    }
    facts.push(("disk", rb_report::storage(&options.dir)));
    facts
}

/// Returns the cases whose name contains the filter, those of one size together.
fn cases(filter: &str) -> Result<Vec<Case>, String> {
    let case = |op, value_bytes, depth| Case {
        op,
        value_bytes,
        depth,
    };
    let mut all = vec![
        case(Op::Put, 64 << 10, 32),
        case(Op::Get, 64 << 10, 32),
        case(Op::Get, 64 << 10, 1),
        case(Op::Put, 1 << 20, 32),
        case(Op::Get, 1 << 20, 32),
    ];
    let names: Vec<String> = all.iter().map(Case::name).collect();
    all.retain(|case| case.name().contains(filter));
    match all.is_empty() {
        true => Err(format!(
            "--case {filter:?} is in none of {}",
            names.join(", ")
        )),
        false => Ok(all),
    }
}

/// Runs all rounds of a case: every contender once in each round.
fn measure(
    options: &Options,
    programs: &Programs,
    kind: Kind,
    target: &Target,
    case: &Case,
    failures: &mut Vec<String>,
) -> Rounds {
    let mut answers = Vec::new();
    for round in 1..=options.rounds() {
        let mut answered: Vec<(Contender, Value)> = Vec::new();
        for contender in Contender::all(programs) {
            let who = format!(
                "{} {} round {round} {}",
                kind.name(),
                case.name(),
                contender.name()
            );
            let ours = answered.iter().find(|(who, _)| *who == Contender::Ours);
            let run = Run {
                programs,
                target,
                case,
                seconds: options.seconds(),
                ours: ours.map(|(_, answer)| answer),
            };
            match run.measure(contender) {
                Ok(answer) => {
                    eprintln!(
                        "{who}: {:.2} GB/s",
                        answer["bytes_per_second"].as_f64().unwrap_or_default() / 1e9
                    );
                    if answer["wrong_bytes"]
                        .as_u64()
                        .is_some_and(|wrong| wrong > 0)
                    {
                        failures.push(format!("{who}: {} wrong bytes", answer["wrong_bytes"]));
                    }
                    answered.push((contender, answer));
                }
                Err(why) => {
                    eprintln!("{who}: {why}");
                    failures.push(format!("{who}: {why}"));
                }
            }
        }
        answers.push(answered);
    }
    Rounds {
        target: kind.name(),
        case: case.name(),
        answers,
    }
}
