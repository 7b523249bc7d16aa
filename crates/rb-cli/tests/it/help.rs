//! The help of every command: its width and its words.

use std::process::Command;

use clap::CommandFactory;
use rb_cli::args::Cli;

use crate::program::Ran;

/// Words that the project's prose avoids.
const AVOIDED: [&str; 48] = [
    "all the same",
    "anew",
    "are to be",
    "as good as",
    "at once",
    "became of",
    "beside",
    "besides",
    "but for",
    "came of",
    "for ever",
    "go by",
    "goes by",
    "in turns",
    "in vain",
    "in words",
    "is said",
    "is to be",
    "lest",
    "let go",
    "lets go",
    "likewise",
    "meanwhile",
    "no sooner",
    "absent",
    "of its kind",
    "of ours",
    "of theirs",
    "of worth",
    "of yours",
    "one another",
    "said so",
    "says so",
    "sees to it",
    "somebody",
    "someone else's",
    "tell",
    "tells",
    "thereby",
    "thereof",
    "told",
    "was said",
    "was to be",
    "were to be",
    "whatever",
    "whichever",
    "whoever",
    "whom",
];

/// The arguments of all helps: of the program and of its commands, short and long.
fn helps() -> Vec<Vec<String>> {
    let mut helps = Vec::new();
    for flag in ["-h", "--help"] {
        helps.push(vec![flag.to_owned()]);
        for command in Cli::command().get_subcommands() {
            if !command.is_hide_set() {
                helps.push(vec![command.get_name().to_owned(), flag.to_owned()]);
            }
        }
    }
    helps
}

fn help(args: &[String], columns: usize) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_rb"));
    let program = program.args(args).env("COLUMNS", columns.to_string());
    Ran::of(program, b"").text()
}

/// Lines that are wider than the terminal.
fn too_wide(text: &str, columns: usize) -> Vec<&str> {
    let lines = text.lines();
    lines
        .filter(|line| line.chars().count() > columns)
        .collect()
}

/// Returns the avoided words in a text, also across its line breaks.
fn avoided(text: &str) -> Vec<&'static str> {
    let letters = |char: char| !char.is_alphanumeric() && char != '\'';
    let words: Vec<&str> = text
        .split(letters)
        .filter(|word| !word.is_empty())
        .collect();
    let text = format!(" {} ", words.join(" ").to_lowercase());
    let is_there = |word: &&str| text.contains(&format!(" {word} "));
    AVOIDED.into_iter().filter(is_there).collect()
}

/// Lines of the help were as long as their sentences: a terminal broke them within words.
#[test]
fn every_help_fits_terminals_of_80_and_120_columns() {
    let helps = helps();
    assert_eq!(helps.len(), 2 * 19, "{helps:?}");
    for args in helps {
        let mut lines = Vec::new();
        for columns in [80, 120] {
            let text = help(&args, columns);
            assert_eq!(too_wide(&text, columns), [""; 0], "{args:?} at {columns}");
            lines.push(text.lines().count());
        }
        assert!(lines[0] >= lines[1], "{args:?}: {lines:?}");
    }
    // Wrapped, not cut: the narrow help has all words of the wide one.
    let words = |columns| -> Vec<String> {
        let text = help(&["fsck".to_owned(), "--help".to_owned()], columns);
        text.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(words(80), words(120));
}

#[test]
fn no_help_has_an_avoided_word() {
    for args in helps() {
        assert_eq!(avoided(&help(&args, 80)), [""; 0], "{args:?}");
    }
}

#[test]
fn the_checks_of_help_find_something() {
    assert_eq!(too_wide("abc\nabcd", 3), ["abcd"]);
    assert_eq!(
        avoided("Written\n  anew, and told. Tellurium."),
        ["anew", "told"]
    );
}
