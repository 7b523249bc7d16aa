//! Checks house rules that the compiler does not.

mod contract;
mod floors;
mod imports;
mod voice;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::cargo_output;

/// Allowed dependencies of each crate within the workspace. The three leaves do not know each other; only rb-core
/// composes them.
const DIRECTION: [(&str, &[&str]); 13] = [
    ("rb-format", &[]),
    ("rb-io", &[]),
    ("rb-index", &[]),
    ("rb-testkit", &["rb-io"]),
    ("rb-core", &["rb-format", "rb-io", "rb-index"]),
    ("rb-report", &[]),
    (
        "rb-cli",
        &["rb-core", "rb-format", "rb-index", "rb-io", "rb-report"],
    ),
    ("rb-python", &["rb-core", "rb-format"]),
    ("rb-tests", &["rb-core", "rb-format", "rb-io", "rb-testkit"]),
    ("rb-fuzz", &["rb-core", "rb-format", "rb-io", "rb-testkit"]),
    (
        "rb-examples",
        &["rb-core", "rb-index", "rb-io", "rb-testkit"],
    ),
    (
        "rb-bench",
        &["rb-core", "rb-format", "rb-io", "rb-index", "rb-testkit"],
    ),
    ("xtask", &["rb-report"]),
];

/// Checks all rules and prints every breach.
pub(crate) fn run() -> Result<(), String> {
    let mut breaches = Vec::new();
    check_direction(&mut breaches)?;
    floors::check(&mut breaches)?;
    let mut sources = Vec::new();
    for root in ["crates", "tests", "benches", "examples", "fuzz", "xtask"] {
        collect(Path::new(root), &mut sources)?;
    }
    for path in &sources {
        let text = fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
        check_source(path, &text, &mut breaches);
    }
    contract::check(&sources, &mut breaches)?;
    let read = voice::check(&sources, &mut breaches)?;
    let mutants = crate::task_mutants::check(&mut breaches)?;
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    if breaches.is_empty() {
        eprintln!(
            "== tidy: {} files and {mutants} mutants in order; {} unusual words among {} of prose",
            sources.len(),
            read.unusual,
            read.words
        );
        return Ok(());
    }
    Err(format!("{} house rules broken", breaches.len()))
}

fn check_direction(breaches: &mut Vec<String>) -> Result<(), String> {
    let output = cargo_output(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_slice(&output).map_err(|why| why.to_string())?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = DIRECTION.iter().find(|(known, _)| *known == name) else {
            breaches.push(format!(
                "{name} has no place in the order of crates (xtask/src/task_tidy.rs)"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let ours = dependency["path"].is_string();
            let for_tests = dependency["kind"] == "dev";
            if ours && !for_tests && !allowed.contains(&on) {
                breaches.push(format!("{name} may not depend on {on}"));
            }
        }
    }
    Ok(())
}

fn check_source(path: &Path, text: &str, breaches: &mut Vec<String>) {
    let shown = path.display();
    let mut breach = |what: &str| breaches.push(format!("{shown}: {what}"));
    if !text.lines().take(20).any(|line| line.starts_with("//!")) {
        breach("begins without a `//!` line that describes it");
    }
    let code = || {
        text.lines()
            .map(|line| line.split("//").next().unwrap_or_default())
    };
    // Split, so that this line does not match itself.
    let marks = [" {", " fn", " impl"].map(|what| format!("unsafe{what}"));
    let risky = code().any(|line| marks.iter().any(|mark| line.contains(mark)));
    if risky {
        let is_binding = shown.to_string() == "crates/rb-python/src/memory.rs";
        if !shown.to_string().starts_with("crates/rb-io/") && !is_binding {
            breach("unsafe code outside rb-io and the file of a binding");
        }
        if !text.contains("// UNSAFETY:") {
            breach("unsafe code without a `// UNSAFETY:` line that says why");
        }
    }
    let is_sync_door = shown.to_string() == "crates/rb-index/src/sync.rs";
    let in_index = shown.to_string().starts_with("crates/rb-index/src");
    let is_test = shown.to_string().contains("tests");
    if in_index && !is_sync_door && !is_test && code().any(|line| line.contains("std::sync")) {
        breach("std::sync outside sync.rs, which loom cannot see");
    }
    // Split, so that this file does not break its own rule.
    for word in [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("X", "XX"),
    ] {
        if text.contains(word) {
            breach(&format!("{word}: finish it or write an issue"));
        }
    }
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|why| why.to_string())?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
    Ok(())
}
