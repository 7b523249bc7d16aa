//! Tests that the command line accepts the commands that the documents name.

use clap::{CommandFactory, Parser};

use crate::Cli;

const DOCUMENTS: [&str; 6] = [
    ".ci/run",
    "README.md",
    "ARCHITECTURE.md",
    "docs/testing.md",
    "docs/performance.md",
    "docs/engines.md",
];
/// Placeholders of the documents, and their replacements.
const PLACEHOLDERS: [(&str, &str); 4] = [(r"TARGET\|all", "all"), ("[", ""), ("]", ""), ("…", "")];

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

/// Checks each command between backquotes, or at the beginning of a line.
#[test]
fn each_command_that_a_document_names_is_understood() {
    let mut count = 0;
    for file in DOCUMENTS {
        let path = format!("{}/../{file}", env!("CARGO_MANIFEST_DIR"));
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let quoted = line.split('`').skip(1).step_by(2);
            let bare = line.split('#').next();
            let commands = quoted.chain(bare);
            for command in commands.filter_map(|text| text.strip_prefix("cargo xtask ")) {
                understand(command).unwrap_or_else(|why| panic!("{file}: {command:?}: {why}"));
                count += 1;
            }
        }
    }
    assert!(count > 20, "only {count} commands found");
}

fn understand(command: &str) -> Result<(), String> {
    let mut line = format!("xtask {command}");
    for (from, to) in PLACEHOLDERS {
        line = line.replace(from, to);
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    if let [_, task] = words[..] {
        // A mention of a task, perhaps without its required arguments.
        let cli = Cli::command();
        return cli.find_subcommand(task).map(drop).ok_or("no task".into());
    }
    Cli::try_parse_from(words)
        .map(drop)
        .map_err(|why| why.to_string())
}
