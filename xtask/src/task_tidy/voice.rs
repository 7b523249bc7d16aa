//! Checks the prose of comments and documents: words that engineers of the field do not use, and doc lines that do not
//! begin with what an item is or does.

use std::fs;
use std::path::{Path, PathBuf};

/// Words and phrases that the prose avoids. A word that is needed for a reason stands in [`ALLOWED`].
const AVOIDED: [&str; 54] = [
    "whoever",
    "nobody",
    "somebody",
    "whom",
    "anew",
    "beside",
    "besides",
    "told",
    "tells",
    "tell",
    "let go",
    "lets go",
    "for ever",
    "in vain",
    "came of",
    "became of",
    "sees to it",
    "of worth",
    "is to be",
    "are to be",
    "was to be",
    "were to be",
    "goes by",
    "go by",
    "answers whether",
    "answers the",
    "answers how",
    "answers with",
    "answers what",
    "answers which",
    "answers none",
    "answers false",
    "answers true",
    "lest",
    "thereby",
    "thereof",
    "therein",
    "henceforth",
    "whatever",
    "whichever",
    "wherever",
    "of ours",
    "of theirs",
    "of yours",
    "is said",
    "are said",
    "says so",
    "say so",
    "said so",
    "in words",
    "all the same",
    "but for",
    "in turns",
    "as good as",
];

/// Where an avoided word stays: the file, the word, and the reason.
const ALLOWED: [(&str, &str, &str); 1] = [(
    "xtask/src/task_tidy/voice.rs",
    "henceforth",
    "the test of this check",
)];

/// First words of a doc comment that do not say what the item is or does.
const BAD_FIRST: [&str; 4] = ["What", "Whether", "Of", "As"];

/// A token of prose and its line, counted from 1. A full stop is a token, so that no phrase spans two sentences.
struct Token {
    line: usize,
    word: String,
}

/// The number of words that were read, for the last line of `tidy`.
#[derive(Default)]
pub(super) struct Read {
    pub(super) words: usize,
    pub(super) unusual: usize,
}

/// Checks every source and every tracked document.
pub(super) fn check(sources: &[PathBuf], breaches: &mut Vec<String>) -> Result<Read, String> {
    let mut read = Read::default();
    let documents = documents(Path::new("."))?;
    for path in sources.iter().chain(&documents) {
        let text = fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))?;
        let is_code = path.extension().is_some_and(|end| end == "rs");
        let lines = match is_code {
            true => comments(&text),
            false => prose(&text),
        };
        let mut breach = |line: usize, what: &str| {
            breaches.push(format!("{}:{line}: {what}", path.display()));
        };
        let firsts = match is_code {
            true => bad_firsts(&text),
            false => Vec::new(),
        };
        for (line, first) in firsts {
            breach(
                line,
                &format!("a doc comment that begins with `{first}`: say what the item is or does"),
            );
        }
        let tokens = tokens(&lines);
        read.words += tokens.iter().filter(|token| token.word != ".").count();
        for (line, phrase) in avoided(&tokens) {
            let allowed =
                |(file, word, _): &(&str, &str, &str)| path.ends_with(file) && *word == phrase;
            if !ALLOWED.iter().any(allowed) {
                read.unusual += 1;
                breach(
                    line,
                    &format!("`{phrase}` is avoided: see AVOIDED in xtask/src/task_tidy/voice.rs"),
                );
            }
        }
    }
    Ok(read)
}

/// The documents of the workspace: Markdown outside of `target`.
fn documents(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).map_err(|why| format!("{}: {why}", folder.display()))?;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(|why| why.to_string())?;
        if kind.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            found.extend(documents(&path)?);
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "md") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The comments of a source, with their lines.
fn comments(text: &str) -> Vec<(usize, &str)> {
    let comment = |line: &'_ str| -> Option<usize> {
        let start = line.len() - line.trim_start().len();
        match line[start..].starts_with("//") {
            true => Some(start),
            false => line.find(" // "),
        }
    };
    let numbered = (1..).zip(text.lines());
    numbered
        .filter_map(|(at, line)| {
            comment(line).map(|start| (at, line[start..].trim_start_matches([' ', '/', '!'])))
        })
        .collect()
}

/// The lines of a document outside of code blocks.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for (at, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push((at, line));
        }
    }
    lines
}

/// The words of the lines in lower case. Text in backticks is a name, not prose.
fn tokens(lines: &[(usize, &str)]) -> Vec<Token> {
    let mut tokens = Vec::new();
    for &(line, text) in lines {
        for (at, part) in text.split('`').enumerate() {
            if at % 2 == 1 {
                tokens.push(Token {
                    line,
                    word: ".".to_owned(),
                });
                continue;
            }
            let mut word = String::new();
            for letter in part.chars().chain([' ']) {
                match letter {
                    'a'..='z' | 'A'..='Z' | '\'' => word.push(letter.to_ascii_lowercase()),
                    _ => {
                        if !word.is_empty() {
                            tokens.push(Token {
                                line,
                                word: std::mem::take(&mut word),
                            });
                        }
                        if matches!(letter, '.' | ';' | ':' | '!' | '?' | '|') {
                            tokens.push(Token {
                                line,
                                word: ".".to_owned(),
                            });
                        }
                    }
                }
            }
        }
    }
    tokens
}

/// Each avoided phrase with the line it begins in.
fn avoided(tokens: &[Token]) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        for phrase in AVOIDED {
            let mut words = phrase.split(' ').zip(&tokens[at..]);
            let len = phrase.split(' ').count();
            if tokens.len() - at >= len && words.all(|(word, token)| token.word == word) {
                found.push((token.line, phrase));
            }
        }
    }
    found
}

/// The first lines of doc comments that begin badly, with the word.
fn bad_firsts(text: &str) -> Vec<(usize, &'static str)> {
    let is_doc =
        |line: &str| line.trim_start().starts_with("///") || line.trim_start().starts_with("//!");
    let mut found = Vec::new();
    let mut former = false;
    for (at, line) in (1..).zip(text.lines()) {
        let doc = is_doc(line);
        if doc && !former {
            let first = line.trim_start()[3..].split_whitespace().next();
            found.extend(
                BAD_FIRST
                    .iter()
                    .filter(|bad| first == Some(**bad))
                    .map(|bad| (at, *bad)),
            );
        }
        former = doc;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, &'static str)> {
        avoided(&tokens(&comments(text)))
    }

    #[test]
    fn avoided_words_are_found_in_comments_only_and_over_line_ends() {
        assert_eq!(
            found("let henceforth = 1;\n/// Thereof it is henceforth.\n"),
            [(2, "thereof"), (2, "henceforth")]
        );
        assert_eq!(found("// It is\n// to be done.\n"), [(1, "is to be")]);
        assert_eq!(found("// It is. To be sure, `thereof` stands\n"), []);
        assert_eq!(found("let a = 1; // henceforth\n"), [(1, "henceforth")]);
        assert_eq!(
            avoided(&tokens(&prose("a\n```\nthereof\n```\nThereof"))),
            [(5, "thereof")]
        );
    }

    #[test]
    fn a_doc_comment_says_what_an_item_is_or_does() {
        assert_eq!(
            bad_firsts("/// Whether it is.\n/// What is more.\nfn f() {}\n//! As\n"),
            [(1, "Whether"), (4, "As")]
        );
        assert_eq!(bad_firsts("// What\n/// Whatever\n"), []);
    }
}
