//! Our store and its peers, measured on the same files, in turn, with the same load.
//!
//! Speed is only ever a ratio to somebody else in the same round: the machine's disk and its neighbours change
//! from minute to minute. `benches/peers` holds what runs the peers.

mod case;
mod contender;
mod fio;
mod program;
mod report;
mod setup;
mod summary;
mod target;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use case::{Case, Op};
use contender::{Contender, Programs, Run};
use program::FOLDER;
use summary::Rounds;
use target::{Kind, Target};

/// Bytes of a file in memory at most: far more than caches hold, and quickly written.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

struct Options {
    targets: Vec<Kind>,
    filter: String,
    rounds: u32,
    seconds: f64,
    /// Bytes of each of the two files of a target.
    file_bytes: u64,
    dir: PathBuf,
    as_json: bool,
    peers: Vec<String>,
    lmcache: bool,
    rb: Option<PathBuf>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            targets: Kind::ALL.to_vec(),
            filter: String::new(),
            rounds: 5,
            seconds: 3.0,
            file_bytes: 4 << 30,
            dir: FOLDER.into(),
            as_json: false,
            peers: ["fio", "foyer", "wheel"].map(str::to_owned).to_vec(),
            lmcache: false,
            rb: None,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
            match arg.as_str() {
                "--quick" => {
                    (options.rounds, options.seconds, options.file_bytes) = (3, 1.0, 1 << 30)
                }
                "--lmcache" => options.lmcache = true,
                "--json" => options.as_json = true,
                "--case" => options.filter = value()?,
                "--rounds" => options.rounds = number(&arg, &value()?)?,
                "--seconds" => options.seconds = number(&arg, &value()?)?,
                "--dir" => options.dir = value()?.into(),
                "--rb" => options.rb = Some(value()?.into()),
                "--target" => {
                    let name = value()?;
                    options
                        .targets
                        .retain(|kind| name == "all" || kind.name() == name);
                    if options.targets.is_empty() {
                        return Err(format!(
                            "--target {name:?} is none of disk, loop, tmpfs, all, or alone null or background"
                        ));
                    }
                }
                "--peers" => {
                    let names = value()?;
                    let wanted = names.split(',').filter(|name| !name.is_empty());
                    let wanted: Vec<String> = wanted.map(str::to_owned).collect();
                    if let Some(other) = wanted.iter().find(|name| !options.peers.contains(name)) {
                        return Err(format!("--peers {other:?} is none of fio, foyer, wheel"));
                    }
                    options.peers = wanted;
                }
                _ => return Err(format!("no such option: {arg}")),
            }
        }
        if options.rounds == 0 || !(0.1..=3600.0).contains(&options.seconds) {
            return Err("--rounds is at least 1, --seconds from 0.1 to 3600".to_owned());
        }
        Ok(options)
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &str,
    text: &str,
) -> Result<T, String> {
    text.parse()
        .map_err(|why| format!("{name} {text:?}: {why}"))
}

/// Measures whoever is asked for, prints the table or the JSON, and writes both and a page to target/bench.
///
/// # Errors
/// A bad option, a build that fails, a contender that fails or serves wrong bytes.
pub(crate) fn run(args: impl Iterator<Item = String>) -> Result<(), String> {
    let args: Vec<String> = args.collect();
    // An engine that completes at once is a program of its own: no peer can use it.
    if args == ["--target", "null"] {
        let program = [
            "run",
            "--release",
            "-p",
            "rb-bench",
            "--bin",
            "async_profile",
        ];
        return crate::run::cargo(&program);
    }
    // Our store alone, on a drive in memory that is the bottleneck.
    if let [target, background, options @ ..] = &args[..]
        && (target.as_str(), background.as_str()) == ("--target", "background")
    {
        let program = "run --release -p rb-bench --bin background_profile --";
        let options = options.iter().map(String::as_str);
        let words: Vec<&str> = program.split(' ').chain(options).collect();
        return crate::run::cargo(&words);
    }
    let options = Options::parse(args.into_iter())?;
    let cases = cases(&options.filter)?;
    fs::create_dir_all(FOLDER).map_err(|why| format!("{FOLDER}: {why}"))?;
    let programs = setup::programs(options.rb.clone(), &options.peers, options.lmcache)?;
    let (mut all, mut failures) = (Vec::new(), Vec::new());
    let checksums = setup::checksum_cold(&cases)?;
    for kind in &options.targets {
        // A store has slots of one size, so the cases of a size share a target.
        for same_size in cases.chunk_by(|one, other| one.value_bytes == other.value_bytes) {
            let bytes = match kind {
                Kind::Disk => options.file_bytes,
                Kind::Loop | Kind::Tmpfs => options.file_bytes.min(MEMORY_BYTES_MAX),
            };
            let made = Target::make(*kind, &options.dir, bytes);
            let target = match made {
                Ok(target) => target,
                Err(why) => {
                    failures.push(format!("{}: {why}", kind.name()));
                    continue;
                }
            };
            for case in same_size {
                all.push(measure(
                    &options,
                    &programs,
                    *kind,
                    &target,
                    case,
                    &mut failures,
                ));
            }
        }
    }
    let mut remarks: Vec<String> = checksums
        .iter()
        .map(|line| format!("checksum on cold data: {line}"))
        .collect();
    remarks.push(format!(
        "{} rounds of {} s; medians, least and greatest; ratios are medians of the ratios within a round. \
         ×fio is against fio with io_uring; of the CPU once by its own account and once by that of its process, \
         which has the kernel's helper threads too.",
        options.rounds, options.seconds
    ));
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
        ("report.html", &report::page(&all, &remarks)),
    ] {
        let path = format!("{FOLDER}/{name}");
        fs::write(&path, content).map_err(|why| format!("{path}: {why}"))?;
    }
    let shown = if options.as_json { json } else { text };
    writeln!(std::io::stdout(), "{shown}").map_err(|why| why.to_string())?;
    eprintln!("== {FOLDER}/report.html");
    failures
        .iter()
        .for_each(|failure| eprintln!("bench: {failure}"));
    match failures.len() {
        0 => Ok(()),
        count => Err(format!("{count} measurements failed")),
    }
}

/// All cases whose name contains the filter, those of one size together.
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

/// All rounds of a case: everybody once in each round.
fn measure(
    options: &Options,
    programs: &Programs,
    kind: Kind,
    target: &Target,
    case: &Case,
    failures: &mut Vec<String>,
) -> Rounds {
    let mut answers = Vec::new();
    for round in 1..=options.rounds {
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
                seconds: options.seconds,
                ours: ours.map(|(_, answer)| answer),
            };
            match run.measure(contender) {
                Ok(answer) => {
                    eprintln!(
                        "{who}: {:.2} GB/s",
                        answer["gbps"].as_f64().unwrap_or_default()
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
