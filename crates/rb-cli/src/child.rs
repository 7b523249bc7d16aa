//! Runs this program as its own child: a process to kill, or a new one to measure.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child as Process, ChildStdout, Command, Stdio};

use crate::failure::Failure;
use crate::log;

/// A running child. Dropping this kills it.
pub(crate) struct Child {
    what: &'static str,
    process: Process,
    lines: BufReader<ChildStdout>,
}

impl Child {
    /// Starts this program with other arguments. `what` names the child in errors.
    pub(crate) fn spawn(
        what: &'static str,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Child, Failure> {
        let failed = |why: String| Failure::Child { what, why };
        let program = std::env::current_exe().map_err(|why| failed(why.to_string()))?;
        let mut process = Command::new(program)
            .args(args)
            .args(log::args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|why| failed(format!("did not start: {why}")))?;
        let stdout = process.stdout.take();
        let stdout = stdout.ok_or_else(|| failed("has no standard output".into()))?;
        Ok(Child {
            what,
            process,
            lines: BufReader::new(stdout),
        })
    }

    /// Reads the next line, without its end. `None` at the end of the output. An incomplete last line, cut by a
    /// kill, is dropped.
    pub(crate) fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        self.lines
            .read_line(&mut line)
            .map_err(|why| self.failed(why.to_string()))?;
        Ok(line.strip_suffix('\n').map(str::to_owned))
    }

    /// Kills the child with SIGKILL, so that it cannot clean up, and waits for its end and the release of its
    /// locks. Returns the complete lines that it wrote before.
    pub(crate) fn kill(mut self) -> Result<Vec<String>, Failure> {
        self.process
            .kill()
            .map_err(|why| self.failed(why.to_string()))?;
        let mut lines = Vec::new();
        while let Some(line) = self.line()? {
            lines.push(line);
        }
        self.process
            .wait()
            .map_err(|why| self.failed(why.to_string()))?;
        Ok(lines)
    }

    /// Waits for the child's end. Returns its output, or its failure.
    pub(crate) fn finish(mut self) -> Result<String, Failure> {
        let mut text = String::new();
        self.lines
            .read_to_string(&mut text)
            .map_err(|why| self.failed(why.to_string()))?;
        let status = self
            .process
            .wait()
            .map_err(|why| self.failed(why.to_string()))?;
        if !status.success() {
            return Err(self.failed(format!("ended with {status}: {}", output_error(&text))));
        }
        Ok(text)
    }

    pub(crate) fn failed(&self, why: String) -> Failure {
        Failure::Child {
            what: self.what,
            why,
        }
    }
}

/// Returns the error in a child's output, or describes the output.
pub(crate) fn output_error(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct ErrorLine {
        error: String,
    }
    match serde_json::from_str::<ErrorLine>(text.trim()) {
        Ok(line) => line.error,
        Err(_) if text.trim().is_empty() => "without output".to_owned(),
        Err(_) => format!("output {:?}", text.trim()),
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail if the child has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::output_error;

    #[test]
    fn the_error_of_a_child_is_reported_as_it_is() {
        assert_eq!(
            output_error("{\"error\":\"no \\\"disk\\\"\"}\n"),
            "no \"disk\""
        );
        assert_eq!(output_error("ready\n"), "output \"ready\"");
        assert_eq!(output_error(""), "without output");
    }
}
