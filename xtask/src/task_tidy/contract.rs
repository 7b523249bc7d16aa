//! Checks that the contract and its tests reference each other: `docs/contract.md` lists under each promise the test
//! files that verify it, and each of those cites the promise's number.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CONTRACT: &str = "docs/contract.md";
/// Folders of tests and harnesses.
const TESTS: [&str; 5] = [
    "tests/tests",
    "tests/src",
    "fuzz",
    "crates/rb-cli/tests",
    "crates/rb-core/tests",
];
const PROMISES: std::ops::RangeInclusive<u8> = 1..=9;

/// Pairs of a promise and a file.
type Pairs = BTreeSet<(u8, String)>;

/// Checks both directions. `sources` are all source files.
pub(super) fn check(sources: &[PathBuf], breaches: &mut Vec<String>) -> Result<(), String> {
    let text = fs::read_to_string(CONTRACT).map_err(|why| format!("{CONTRACT}: {why}"))?;
    let named = named(&text);
    let mut cited = Pairs::new();
    for path in sources {
        if TESTS.iter().any(|folder| path.starts_with(folder)) {
            let text =
                fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
            cited.extend(cited_in(&text).map(|promise| (promise, path.display().to_string())));
        }
    }
    compare(&named, &cited, breaches);
    for (_, file) in &named {
        if !Path::new(file).is_file() {
            breaches.push(format!("{CONTRACT}: there is no {file}"));
        }
    }
    Ok(())
}

fn compare(named: &Pairs, cited: &Pairs, breaches: &mut Vec<String>) {
    for promise in PROMISES {
        if !named.iter().any(|(of, _)| *of == promise) {
            breaches.push(format!("{CONTRACT}: C{promise} names no tests"));
        }
    }
    for (promise, file) in named.difference(cited) {
        breaches.push(format!("{CONTRACT}: {file} does not cite C{promise}"));
    }
    for (promise, file) in cited.difference(named) {
        breaches.push(format!(
            "{file} cites C{promise}, and {CONTRACT} does not name it there"
        ));
    }
}

/// Returns the files that each section names.
fn named(contract: &str) -> Pairs {
    let mut pairs = Pairs::new();
    let mut promise = None;
    for line in contract.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            promise = cited_in(heading).next();
        }
        let files = line.split('`').skip(1).step_by(2);
        for file in files.filter(|words| {
            words.contains('/') && Path::new(words).extension().is_some_and(|end| end == "rs")
        }) {
            pairs.extend(promise.map(|promise| (promise, file.to_owned())));
        }
    }
    pairs
}

/// Returns the promises that comments and headings cite, ranges (`C1 to C3`, `C1-C9`) included.
fn cited_in(text: &str) -> impl Iterator<Item = u8> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let Some(words) = line
            .split_once("//")
            .map(|(_, words)| words)
            .or_else(|| line.strip_prefix('C').map(|_| line))
        else {
            continue;
        };
        let mut range_from = None;
        for word in words.split(|char: char| !char.is_alphanumeric()) {
            let number = word
                .strip_prefix('C')
                .and_then(|digits| digits.parse().ok());
            match number.filter(|number| PROMISES.contains(number)) {
                Some(number) => {
                    found.extend(range_from.take().unwrap_or(number)..=number);
                    range_from = Some(number);
                }
                None if word == "to" => {}
                None => range_from = None,
            }
        }
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citations_are_found_in_comments() {
        let text = "//! Threads (C1, C4).\nlet c = 0xC3;\n/// C2: kept. C10 and CRC32C5 are none.\nlet s = \"C7\";\n";
        assert_eq!(cited_in(text).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(
            cited_in("/// C1 to C3, and C7.").collect::<Vec<_>>(),
            [1, 2, 3, 7]
        );
        assert_eq!(
            cited_in("C8: nothing is destroyed").collect::<Vec<_>>(),
            [8]
        );
    }

    #[test]
    fn both_directions_are_compared() {
        let contract =
            "## C1: never\n\nTests: `a/b.rs`, `c/d.rs`.\n\n## C2: kept\n\nTests: `a/b.rs`.\n";
        let cited = [(1, "a/b.rs"), (2, "a/b.rs"), (2, "e/f.rs")];
        let cited = cited.map(|(promise, file)| (promise, file.to_owned()));
        let mut breaches = Vec::new();
        compare(&named(contract), &Pairs::from(cited), &mut breaches);
        breaches.retain(|breach| !breach.contains("names no tests"));
        assert_eq!(
            breaches,
            [
                "docs/contract.md: c/d.rs does not cite C1",
                "e/f.rs cites C2, and docs/contract.md does not name it there"
            ]
        );
    }
}
