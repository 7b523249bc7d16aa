//! The only door to standard output.
//!
//! A reader that goes away (`rb ls … | head`) is not an error of ours: the broken pipe travels up as
//! an I/O error, and the program ends quietly.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::failure::Failure;
use crate::terminal::{plain, plain_json};

/// Standard output, locked for the length of the program, and how results are to look.
#[derive(Debug)]
pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    warnings: Vec<String>,
}

/// A result with what there is to warn of.
#[derive(Serialize)]
struct Warned<'a, T> {
    #[serde(flatten)]
    result: &'a T,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

impl Output {
    /// Takes standard output. `json`: results are one line of JSON.
    #[must_use]
    pub fn new(json: bool) -> Output {
        Output {
            out: BufWriter::new(io::stdout().lock()),
            json,
            warnings: Vec::new(),
        }
    }

    /// Says a warning on standard error, and keeps it for the line of JSON. The same words are said
    /// once.
    pub fn warn(&mut self, text: String) {
        if self.warnings.contains(&text) {
            return;
        }
        // Without a standard error there is nobody left to tell.
        drop(writeln!(io::stderr(), "rb: warning: {}", plain(&text)));
        self.warnings.push(text);
    }

    /// Whether results are one line of JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Writes a line for people.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        writeln!(self.out, "{}", plain(text.as_ref())).map_err(failed)
    }

    /// Writes raw bytes.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(failed)
    }

    /// Writes one line of JSON: the result, a struct, and the `warnings` if there are any.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn json(&mut self, result: &impl Serialize) -> Result<(), Failure> {
        let warned = Warned {
            result,
            warnings: &self.warnings,
        };
        let line = serde_json::to_string(&warned).map_err(|why| failed(why.into()))?;
        self.bytes(plain_json(&line).as_bytes())?;
        self.bytes(b"\n")
    }

    /// Hands on what was written so far.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(failed)
    }
}

fn failed(source: io::Error) -> Failure {
    Failure::Output { source }
}
