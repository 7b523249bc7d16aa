//! Runs the samples of `docs/operations.md` and compares their output.

use std::collections::BTreeMap;
use std::process::Command;

use tempfile::TempDir;

const PAGE: &str = include_str!("../../../../docs/operations.md");

/// Samples marked with `<!-- not run: reason -->`, by their first command.
const NOT_RUN: [&str; 2] = ["rb demo", "rb top /dev/nvme1n1 --once"];

/// A block of commands, each with its expected output.
struct Sample {
    not_run: Option<String>,
    steps: Vec<(String, Vec<String>)>,
}

/// Reads the blocks of a page that have a line with `$ `.
fn samples(page: &str) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut lines = page.lines();
    let mut mark = None;
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix("```") else {
            let reason = line.strip_prefix("<!-- not run: ");
            mark = reason.map(|reason| reason.trim_end_matches(" -->").to_owned());
            continue;
        };
        assert!(!rest.is_empty(), "a block without a language");
        let mut steps: Vec<(String, Vec<String>)> = Vec::new();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push((command.to_owned(), Vec::new()));
            } else if let Some((_, output)) = steps.last_mut() {
                output.push(line.to_owned());
            } else {
                assert!(!line.starts_with("rb "), "shown without `$`: {line}");
            }
        }
        let not_run = mark.take();
        if !steps.is_empty() {
            samples.push(Sample { not_run, steps });
        }
    }
    samples
}

/// Runs a command in a shell, with the folder in place of `/tmp`. Returns both its outputs.
fn run(command: &str, folder: &TempDir) -> String {
    let folder = folder.path().to_str().unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_rb"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut shell = Command::new("sh");
    let command = command.replace("/tmp/", &format!("{folder}/"));
    shell.args(["-c", &format!("exec 2>&1\n{command}")]);
    let output = shell.env("PATH", path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.replace(folder, "/tmp")
}

/// A line with placeholders for what depends on the machine or the run. `None` for a line that some
/// machines do not have.
fn normal(line: &str) -> Option<String> {
    // Engines that `auto` rejected here.
    if line.starts_with("              not ") {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.first() == Some(&"transfers") {
        return Some("  transfers".to_owned());
    }
    let measured = words.first() == Some(&"seconds");
    let mut shown = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let next = words
            .get(at + 1)
            .map_or("", |next| next.trim_end_matches([',', ';', ':']));
        let is_number = word.starts_with(|char: char| char.is_ascii_digit());
        let units = ["s", "us", "ms", "GB/s", "values/s", "CPU", "commits"];
        shown.push(if is_number && (measured || units.contains(&next)) {
            "#".to_owned()
        } else if word.trim_end_matches(',').len() == 36 && word.matches('-').count() == 4 {
            "UUID".to_owned()
        } else if word.starts_with("0x") {
            "0x#".to_owned()
        } else {
            word.replace("io_uring", "ENGINE")
                .replace("posix", "ENGINE")
        });
    }
    let indent = line.len() - line.trim_start().len();
    Some(format!("{}{}", " ".repeat(indent), shown.join(" ")))
}

#[test]
fn the_samples_of_the_docs_are_what_the_program_prints() {
    let folder = tempfile::tempdir().unwrap();
    let mut not_run = Vec::new();
    let mut ran = BTreeMap::new();
    let mut wrong = Vec::new();
    for sample in samples(PAGE) {
        if let Some(reason) = sample.not_run {
            assert!(reason.len() > 20, "no reason: {reason}");
            not_run.push(sample.steps[0].0.clone());
            continue;
        }
        for (command, expected) in sample.steps {
            let found = run(&command, &folder);
            let program = command.split_once("rb ").map_or("", |(_, rest)| rest);
            let program = program.split(' ').next().unwrap().to_owned();
            *ran.entry(program).or_insert(0) += 1;
            let normal = |lines: &[String]| -> Vec<String> {
                lines.iter().filter_map(|line| normal(line)).collect()
            };
            let found: Vec<String> = found.lines().map(str::to_owned).collect();
            if normal(&found) != normal(&expected) {
                wrong.push(format!("$ {command}\n{}", found.join("\n")));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "the program prints:\n{}",
        wrong.join("\n")
    );
    assert_eq!(not_run, NOT_RUN);
    // A page without samples would pass everything above.
    for command in [
        "format", "put", "get", "ls", "rm", "info", "fsck", "inspect", "bench", "replay",
    ] {
        assert!(ran.contains_key(command), "{command}: {ran:?}");
    }
}

/// Placeholders hide what differs between runs, and nothing else.
#[test]
fn placeholders_hide_times_and_keep_counts() {
    let line = |text: &str| normal(text).unwrap();
    assert_eq!(
        line("read: 3 headers, in 0.034 s"),
        line("read: 3 headers, in 1.5 s")
    );
    assert_ne!(
        line("read: 3 headers, in 0.034 s"),
        line("read: 4 headers, in 0.034 s")
    );
    assert_ne!(line("  slots     1"), line("slots     1"));
    assert_ne!(line("copy A ok"), line("copy A older"));
}
