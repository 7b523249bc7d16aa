//! Compares the JSON of every command with the tables of `docs/json.md`, in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::damage::damage_base;
use crate::program::{Place, Ran, arg, rb, rb_with_input};
use crate::watching::Bench;

const PAGE: &str = include_str!("../../../../docs/json.md");

const COMMANDS: [&str; 18] = [
    "bench",
    "clear",
    "demo",
    "format",
    "fsck",
    "get",
    "info",
    "inspect",
    "ls",
    "probe",
    "put",
    "recover-bench",
    "replay",
    "rm",
    "scrub",
    "simulate",
    "stats",
    "top",
];

/// A row of the tables.
struct Row {
    types: String,
    unit: String,
    commands: BTreeSet<String>,
}

/// Reads the tables of a page. Each row is in one table only.
fn rows(page: &str) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, types, unit, meaning, commands] = cells[..] else {
            panic!("not five cells: {line}");
        };
        assert!(!meaning.is_empty(), "no meaning: {line}");
        let commands = match commands {
            // `rb --version` is not a command, but prints a line like one.
            "all" => COMMANDS
                .iter()
                .chain(&["version"])
                .map(|name| (*name).to_owned())
                .collect(),
            list => list.split(", ").map(str::to_owned).collect(),
        };
        let row = Row {
            types: types.to_owned(),
            unit: unit.to_owned(),
            commands,
        };
        let name = name.trim_matches('`').to_owned();
        assert!(rows.insert(name, row).is_none(), "two rows: {line}");
    }
    rows
}

/// Fields of the output: which commands have them, and with which types.
#[derive(Default)]
struct Fields(BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>);

impl Fields {
    fn line(&mut self, line: &Value) {
        // An error of the command line belongs to no command.
        let command = line["command"].as_str().unwrap_or("");
        self.object(command, line);
    }

    fn object(&mut self, command: &str, object: &Value) {
        for (name, value) in object.as_object().unwrap() {
            let (commands, types) = self.0.entry(name.clone()).or_default();
            if !command.is_empty() {
                commands.insert(command.to_owned());
            }
            types.insert(type_of(value).to_owned());
            match value {
                Value::Object(_) => self.object(command, value),
                Value::Array(elements) => {
                    for element in elements {
                        let of = format!("array of {}s", type_of(element));
                        self.0.get_mut(name).unwrap().1.insert(of);
                        if element.is_object() {
                            self.object(command, element);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
    }
}

/// Differences between tables and output, one line each.
fn differences(rows: &BTreeMap<String, Row>, fields: &Fields) -> Vec<String> {
    let mut found = Vec::new();
    for (name, (commands, types)) in &fields.0 {
        let Some(row) = rows.get(name) else {
            found.push(format!("{name} is not in the tables: {commands:?}"));
            continue;
        };
        for command in commands.difference(&row.commands) {
            found.push(format!("{name} has no command {command} in the tables"));
        }
        let mut expected: BTreeSet<String> = row.types.split(" or ").map(str::to_owned).collect();
        if row.types.starts_with("array of ") {
            expected.insert("array".to_owned());
        }
        for found_type in types.difference(&expected) {
            found.push(format!("{name} is {found_type}, not {}", row.types));
        }
        for missing in expected.difference(types) {
            // What is wrong with a store decides which of its arrays have elements.
            if !missing.starts_with("array of ") {
                found.push(format!("{name} was never {missing}"));
            }
        }
    }
    for (name, row) in rows {
        let none = BTreeSet::new();
        let commands = fields.0.get(name).map_or(&none, |(commands, _)| commands);
        for command in row.commands.difference(commands) {
            found.push(format!("{name} was not in the output of {command}"));
        }
        if !has_unit(name, &row.unit) {
            found.push(format!("{name} does not end with its unit {:?}", row.unit));
        }
    }
    found
}

/// Returns whether a name ends with its unit, and with no other one.
fn has_unit(name: &str, unit: &str) -> bool {
    let name = name.strip_suffix("_max").unwrap_or(name);
    let suffixes = [
        "bytes per second",
        "values per second",
        "per second",
        "seconds per gb",
        "seconds",
        "bytes",
        "ratio",
        "us",
    ];
    let of_name = suffixes.iter().find(|suffix| {
        let suffix = suffix.replace(' ', "_");
        name == suffix || name.ends_with(&format!("_{suffix}"))
    });
    of_name.copied().unwrap_or("") == unit
}

/// The output of every command, of results, misses and errors.
fn outputs() -> Vec<Ran> {
    let place = Place::new();
    let mut all = vec![rb(["--json"]), rb(["--json", "nonsense"])];
    all.push(rb(["--version", "--json"]));
    let format = ["--slot-bytes", "64KiB", "--slots", "64", "--label", "a"];
    all.push(place.rb(&["format", "--json"], &format));
    let put = |more: &[&str]| {
        let args = [&["k", "-"], more].concat();
        rb_with_input(place.args(&["put", "--json"], &args), b"value")
    };
    all.extend([put(&[]), put(&["--keep"])]);
    let to = place.path("value");
    for key in ["k", "none"] {
        all.push(place.rb(&["get", "--json"], &[key, "-o", arg(&to)]));
    }
    all.push(place.rb(&["ls", "--json"], &[]));
    all.push(place.rb(&["inspect", "--json"], &[]));
    all.push(place.rb(&["inspect", "--json"], &["slot", "--key", "k"]));
    all.push(place.rb(&["fsck", "--json"], &["--deep"]));
    all.push(place.rb(&["probe", "--json"], &[]));
    all.push(rb(["probe", "--json", "/dev/null"]));
    all.push(place.rb(&["info", "--json"], &[]));
    // io_uring is rejected where files cannot be opened.
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 12; exec \"$0\" info --json \"$1\""]);
    limited.args([env!("CARGO_BIN_EXE_rb"), arg(&place.store)]);
    all.push(Ran::of(&mut limited, b""));
    all.push(place.rb(&["rm", "--json"], &["k", "none"]));
    all.extend(damaged());
    all.extend(measured(&place));
    all.extend(watched());
    // Without a store each command that needs one fails.
    let none = place.path("none");
    for command in COMMANDS {
        let more: &[&str] = match command {
            "format" => &["--slot-bytes", "1"],
            "get" => &["k", "-o", "/dev/null"],
            "put" => &["k", "/nonexistent"],
            "rm" => &["k"],
            _ => &[],
        };
        let args = match command {
            "bench" => vec!["--store", arg(&none), "--op", "get", "--threads", "0"],
            "recover-bench" => vec!["--store", arg(&none), "--entries", "1"],
            "demo" => vec!["--dir", "/nonexistent"],
            "replay" => vec![
                arg(&none),
                "--store",
                arg(&none),
                "--slots",
                "9",
                "--slot-bytes",
                "4k",
            ],
            _ => [&[arg(&none)], more].concat(),
        };
        let ran = rb([&[command, "--json"], &args[..]].concat());
        assert_eq!(ran.code, Some(1), "{command}: {ran:?}");
        assert!(ran.json_line()["error"].is_string(), "{ran:?}");
        all.push(ran);
    }
    all
}

/// Stores whose metadata is lost, and one without a superblock.
fn damaged() -> Vec<Ran> {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
    let info = place.rb(&["info", "--json"], &[]).json();
    for name in ["base_a", "base_b"] {
        damage_base(&place, &info, name);
    }
    let mut all = vec![
        place.rb(&["info", "--json"], &[]),
        place.rb(&["inspect", "--json"], &["base"]),
        place.rb(&["fsck", "--json"], &[]),
        place.rb(&["fsck", "--json", "--repair", "--yes"], &[]),
    ];
    for copy in [0, 1 << 20] {
        place.overwrite(copy, &[0xA5; 4096]);
    }
    all.push(place.rb(&["fsck", "--json"], &[]));
    all
}

/// The commands that ask the process that has a store open, and those that need it closed.
fn watched() -> Vec<Ran> {
    let place = Place::new();
    let mut all = Vec::new();
    let bounded = [
        "--op",
        "idle",
        "--policy",
        "learned",
        "--write-budget",
        "1TiB",
    ];
    for load in [&["--op", "mixed"][..], &bounded] {
        let bench = Bench::start(&place, load);
        all.push(place.rb(&["stats", "--json"], &[]));
        if load.contains(&"mixed") {
            all.push(place.rb(&["scrub", "--json"], &["--rate", "1GiB"]));
            all.push(place.rb(&["scrub", "--json", "--start"], &["--rate", "1"]));
            all.push(place.rb(&["stats", "--json"], &[]));
            all.push(place.rb(&["top", "--json", "--interval", "0.3"], &[]));
            all.push(place.rb(&["info", "--json"], &[]));
        }
        all.push(place.rb(&["top", "--json", "--interval", "0.1"], &[]));
        bench.end();
    }
    all.push(place.rb(&["scrub", "--json"], &[]));
    all.push(place.rb(&["clear", "--json", "--yes"], &[]));
    all
}

/// The commands that measure.
fn measured(place: &Place) -> Vec<Ran> {
    let trace = "{\"hash_ids\": [1, 2]}\n{\"hash_ids\": [1, 2, 3]}\n{\"hash_ids\": [4]}\n";
    let trace = place.file("trace", trace.as_bytes());
    let store = place.path("measured");
    let replay = |more: &[&str]| {
        let args = ["replay", "--json", arg(&trace), "--store", arg(&store)];
        let slots = ["--slots", "64", "--slot-bytes", "4KiB"];
        rb([&args, &slots[..], more].concat())
    };
    let simulate = ["simulate", "--json", arg(&trace), "--capacity", "2,100%"];
    let bench = place.path("bench");
    let args = ["--size", "24MiB", "--seconds", "0.1", "--json"];
    let bench = ["bench", "--op", "put", "--store", arg(&bench)];
    let mixed = ["--op", "mixed", "--zipf", "0.9"];
    let recover = place.path("recover");
    let folder = arg(place.folder.path());
    vec![
        replay(&[]),
        replay(&["--yes", "--restart-every", "1"]),
        rb(simulate),
        rb([&simulate[..], &["--budget", "9"]].concat()),
        rb([&bench[..], &args].concat()),
        rb([&bench[..1], &["--op", "idle"], &bench[3..], &args[2..]].concat()),
        rb([&bench[..1], &mixed, &bench[3..], &args[2..]].concat()),
        rb([
            "recover-bench",
            "--json",
            "--entries",
            "20000",
            "--store",
            arg(&recover),
        ]),
        rb(["demo", "--json", "--turns", "20", "--dir", folder]),
    ]
}

/// Fields that are `null` where there is no NVMe drive. The tests of `info/drive.rs` and of emulated drives have others.
const OF_A_DRIVE: [&str; 7] = [
    "drive_written_bytes",
    "endurance_used_ratio",
    "life_left_seconds",
    "placed_host_bytes",
    "placed_media_bytes",
    "powered_seconds",
    "spare_left_ratio",
];

#[test]
fn the_tables_of_the_docs_are_the_fields_of_the_output() {
    let mut fields = Fields::default();
    for ran in outputs() {
        let line = ran.json_line();
        assert_eq!(line["schema"], 1, "{line}");
        fields.line(&line);
    }
    let mut found = differences(&rows(PAGE), &fields);
    found.retain(|line| {
        let words = line.split_once(" was never ");
        !words.is_some_and(|(name, _)| OF_A_DRIVE.contains(&name))
    });
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The comparison itself finds a field without a row, a wrong type, and a row without a field.
#[test]
fn the_comparison_sees_each_kind_of_difference() {
    let page = "| `path` | string | | m | ls |\n| `slots` | integer | | m | ls |\n\
                | `time_bytes` | number | seconds | m | ls |\n";
    let mut fields = Fields::default();
    let line = serde_json::json!({"command": "ls", "path": 7, "live": [{"slots": 1}]});
    fields.object("ls", &line);
    let found = differences(&rows(page), &fields);
    for words in [
        "command is not in the tables",
        "live is not in the tables",
        "path is integer, not string",
        "path was never string",
        "time_bytes was not in the output of ls",
        "time_bytes does not end with its unit",
    ] {
        assert!(
            found.iter().any(|one| one.contains(words)),
            "{words}: {found:?}"
        );
    }
    assert!(
        !found.iter().any(|one| one.starts_with("slots")),
        "{found:?}"
    );
}

/// A bench that found wrong bytes printed a result without an error: only its exit code showed it.
#[test]
fn a_bench_that_finds_wrong_bytes_has_an_error_and_a_result() {
    let place = Place::new();
    let args = [
        "--size",
        "24MiB",
        "--seconds",
        "0.1",
        "--json",
        "--op",
        "get",
    ];
    let bench = || place.rb(&["bench", "--store"], &args);
    bench().json();
    let key = "rb-bench/65536/0";
    rb_with_input(place.args(&["put"], &[key, "-"]), &[7; 65_536]).text();
    let ran = bench();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let line = ran.json_line();
    assert!(line["wrong_bytes"].as_u64().unwrap() >= 65_536, "{line}");
    let error = line["error"].as_str().unwrap();
    assert!(error.contains("bytes are not what was put"), "{line}");
}
