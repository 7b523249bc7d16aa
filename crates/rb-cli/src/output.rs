//! Standard output: lines for people, or one line of JSON. `docs/json.md` lists its fields.
//!
//! A reader that closes the pipe (`rb ls … | head`) is not an error: the broken pipe is returned as an
//! I/O error, and the program ends quietly.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

use crate::failure::Failure;
use crate::terminal::{plain, plain_json};

/// Version of the JSON fields. It changes when a field is renamed or removed, or changes its type,
/// unit or meaning.
const SCHEMA: u32 = 1;

/// Standard output, locked while the program runs, and the form of the results.
#[derive(Debug)]
pub struct Output {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
    command: Option<&'static str>,
    warnings: Vec<String>,
}

/// The line of JSON: the fields that all commands share, then those of the result.
#[derive(Serialize)]
struct JsonLine<'a, T> {
    schema: u32,
    command: Option<&'static str>,
    error: Option<String>,
    warnings: &'a [String],
    #[serde(flatten)]
    result: &'a T,
}

/// The result of a command that failed before it had one.
#[derive(Serialize)]
struct NoResult {}

impl Output {
    /// Takes standard output. `json`: results are one line of JSON. `command` is the command's name, if
    /// the command line was understood.
    #[must_use]
    pub fn new(json: bool, command: Option<&'static str>) -> Output {
        Output {
            out: BufWriter::new(io::stdout().lock()),
            json,
            command,
            warnings: Vec::new(),
        }
    }

    /// Writes a warning to standard error, and keeps it for the line of JSON. A warning that was
    /// written before is not repeated.
    pub fn warn(&mut self, text: String) {
        if self.warnings.contains(&text) {
            return;
        }
        // A closed standard error leaves no place to report that.
        drop(writeln!(io::stderr(), "rb: warning: {}", plain(&text)));
        self.warnings.push(text);
    }

    /// Returns whether results are one line of JSON.
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

    /// Writes the line of JSON of a command that did its work. `result` is a struct.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn json(&mut self, result: &impl Serialize) -> Result<(), Failure> {
        self.json_line(result, None)
    }

    /// Writes the line of JSON of a command that has a result and may have failed.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn json_with(
        &mut self,
        result: &impl Serialize,
        failure: Option<&Failure>,
    ) -> Result<(), Failure> {
        self.json_line(result, failure.map(Failure::chain))
    }

    /// Writes the line of JSON of a command that failed without a result.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub fn json_error(&mut self, error: String) -> Result<(), Failure> {
        self.json_line(&NoResult {}, Some(error))
    }

    fn json_line(&mut self, result: &impl Serialize, error: Option<String>) -> Result<(), Failure> {
        let line = JsonLine {
            schema: SCHEMA,
            command: self.command,
            error,
            warnings: &self.warnings,
            result,
        };
        let line = serde_json::to_string(&line).map_err(|why| failed(why.into()))?;
        self.bytes(plain_json(&line).as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes out what is buffered.
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
