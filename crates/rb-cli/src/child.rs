//! This program as its own child, for what needs a process to kill or a fresh one to measure.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child as Process, ChildStdout, Command, Stdio};

use crate::failure::Failure;

/// A running child. Dropping it kills it.
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

    /// The next line without its end; none at the end of the child's output. A last line that a kill
    /// cut short is not one.
    pub(crate) fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        self.lines
            .read_line(&mut line)
            .map_err(|why| self.failed(why.to_string()))?;
        Ok(line.strip_suffix('\n').map(str::to_owned))
    }

    /// Kills it hard (SIGKILL on Unix), so that nothing in it gets to tidy up, and waits until it is
    /// gone and its locks with it. Answers the whole lines that it had written before.
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

    /// Waits until it ends, and answers all that it wrote, or its failure.
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
            return Err(self.failed(format!("ended with {status}: {}", said(&text))));
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

/// What a child said, in words: its error, if that is what it said.
pub(crate) fn said(text: &str) -> String {
    #[derive(serde::Deserialize)]
    struct ErrorLine {
        error: String,
    }
    match serde_json::from_str::<ErrorLine>(text.trim()) {
        Ok(line) => line.error,
        Err(_) if text.trim().is_empty() => "it said nothing".to_owned(),
        Err(_) => format!("it said {:?}", text.trim()),
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail if it is gone already, which is what is wanted.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn an_error_of_a_child_is_said_in_its_own_words() {
        assert_eq!(said("{\"error\":\"no \\\"disk\\\"\"}\n"), "no \"disk\"");
        assert_eq!(said("ready\n"), "it said \"ready\"");
        assert_eq!(said(""), "it said nothing");
    }
}
