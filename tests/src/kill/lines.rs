//! What the child says, a line each. A line goes out in one write of at most a pipe's atomic size, so a
//! kill leaves whole lines only, and their order is that of the writes over all threads. Intents are said
//! before the operation, answers after it.

use std::io::Write;
use std::str::FromStr;

use super::keys::Key;

/// A line of the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The store is being opened.
    Opening,
    /// It is open.
    Serving,
    /// All operations have ended; the store is being closed or dropped.
    Closing,
    /// That went well.
    Closed,
    /// Operation `op` begins: puts of these keys and versions.
    Put {
        op: u64,
        puts: Vec<(Key, u64)>,
        durable: bool,
    },
    /// Operation `op` begins: removes.
    Remove { op: u64, keys: Vec<Key> },
    /// Operation `op` ended so, key by key.
    Answers { op: u64, answers: Vec<Answer> },
    /// A put took this key's slot.
    Evicted(Key),
    /// A sync begins.
    Syncing(u64),
    /// It went well.
    Synced(u64),
    /// Something that must not be.
    Violation(String),
}

/// How one key of an operation was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Stored, or removed.
    Done,
    /// Nothing changed: it exists, or there was no room.
    Unchanged,
    /// Another operation on the key came after it.
    Superseded,
}

impl Line {
    /// Says it on standard output. Ends the process when nobody listens any more.
    pub(super) fn say(&self) {
        let line = self.text() + "\n";
        if std::io::stdout().write_all(line.as_bytes()).is_err()
            || std::io::stdout().flush().is_err()
        {
            std::process::exit(0);
        }
    }

    fn text(&self) -> String {
        match self {
            Line::Opening => "o".into(),
            Line::Serving => "v".into(),
            Line::Closing => "c".into(),
            Line::Closed => "x".into(),
            Line::Put { op, puts, durable } => {
                let puts = puts
                    .iter()
                    .map(|(key, version)| format!(" {key}:{version}"));
                let flag = if *durable { "P" } else { "p" };
                format!("{flag} {op}{}", puts.collect::<String>())
            }
            Line::Remove { op, keys } => {
                let keys = keys.iter().map(|key| format!(" {key}"));
                format!("r {op}{}", keys.collect::<String>())
            }
            Line::Answers { op, answers } => {
                let answers = answers.iter().map(|answer| match answer {
                    Answer::Done => " d",
                    Answer::Unchanged => " u",
                    Answer::Superseded => " s",
                });
                format!("a {op}{}", answers.collect::<String>())
            }
            Line::Evicted(key) => format!("e {key}"),
            Line::Syncing(number) => format!("s {number}"),
            Line::Synced(number) => format!("d {number}"),
            Line::Violation(what) => format!("! {}", what.replace('\n', " ")),
        }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Line, String> {
        let wrong = || format!("the child said {text:?}");
        let number = |word: &str| word.parse::<u64>().map_err(|_| wrong());
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        if kind == "!" {
            return Ok(Line::Violation(rest.into()));
        }
        let mut words = rest.split_whitespace();
        let first = words.next().map_or(Ok(0), number)?;
        match kind {
            "o" => Ok(Line::Opening),
            "v" => Ok(Line::Serving),
            "c" => Ok(Line::Closing),
            "x" => Ok(Line::Closed),
            "p" | "P" => {
                let put = |word: &str| {
                    let (key, version) = word.split_once(':').ok_or_else(wrong)?;
                    Ok((number(key)?, number(version)?))
                };
                Ok(Line::Put {
                    op: first,
                    puts: words.map(put).collect::<Result<_, String>>()?,
                    durable: kind == "P",
                })
            }
            "r" => Ok(Line::Remove {
                op: first,
                keys: words.map(number).collect::<Result<_, _>>()?,
            }),
            "a" => {
                let answer = |word| match word {
                    "d" => Ok(Answer::Done),
                    "u" => Ok(Answer::Unchanged),
                    "s" => Ok(Answer::Superseded),
                    _ => Err(wrong()),
                };
                Ok(Line::Answers {
                    op: first,
                    answers: words.map(answer).collect::<Result<_, _>>()?,
                })
            }
            "e" => Ok(Line::Evicted(first)),
            "s" => Ok(Line::Syncing(first)),
            "d" => Ok(Line::Synced(first)),
            _ => Err(wrong()),
        }
    }
}
