//! The harnesses that find mutants, and how to read what they print.

use serde_json::Value;

use crate::programs::Program;

/// A command that must find a mutant.
pub(crate) struct Harness {
    /// What follows `cargo xtask`.
    pub(crate) line: String,
    kind: Kind,
}

enum Kind {
    Program(&'static Program),
    Loom,
    Device,
}

impl Harness {
    /// Reads `cargo xtask HARNESS [OPTIONS]`.
    ///
    /// # Errors
    /// Another command.
    pub(crate) fn read(command: &str) -> Result<Harness, String> {
        let line = command.strip_prefix("cargo xtask ");
        let line = line.ok_or_else(|| format!("{command:?} is not `cargo xtask …`"))?;
        let kind = match line.split(' ').next().unwrap_or_default() {
            "loom" => Kind::Loom,
            "device-test" => Kind::Device,
            name => Kind::Program(
                Program::named(name).ok_or_else(|| format!("{name:?} is no harness"))?,
            ),
        };
        let line = line.to_owned();
        Ok(Harness { line, kind })
    }

    /// The cargo command, with its environment, that builds what the harness runs.
    pub(crate) fn build(&self) -> (Vec<&'static str>, &'static [(&'static str, &'static str)]) {
        match self.kind {
            Kind::Program(program) => ([vec!["build"], program.selection()].concat(), &[]),
            Kind::Device => (vec!["build", "-p", "rb-tests", "--bin", "device"], &[]),
            Kind::Loom => {
                let line = "test -p rb-index --release --lib --target-dir target/loom --no-run";
                (line.split(' ').collect(), &[("RUSTFLAGS", "--cfg rb_loom")])
            }
        }
    }

    /// What follows `cargo xtask` for a run of at most so many seconds with a report.
    pub(crate) fn words(&self, seconds: u32) -> Vec<String> {
        let mut words: Vec<String> = self.line.split(' ').map(str::to_owned).collect();
        if !matches!(self.kind, Kind::Loom) {
            words.push("--json".into());
        }
        if let Kind::Program(Program {
            limit: Some((option, unit)),
            ..
        }) = self.kind
        {
            let time = (f64::from(seconds) / unit).to_string();
            words.extend([(*option).to_owned(), time]);
        }
        words
    }

    /// The violation that the harness reported, if it did.
    pub(crate) fn violation(&self, output: &str) -> Option<String> {
        if let Kind::Loom = self.kind {
            // The line after the place of the panic.
            let mut lines = output.lines();
            lines.find(|line| line.contains("panicked at"))?;
            return lines.next().map(str::to_owned);
        }
        let mut reports = output
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let said = reports.find_map(|report| {
            let failed_test = (report["status"] == "fail").then_some(&report["said"]);
            let said = [&report["violation"], &report["violations"][0]].into_iter();
            let said = said.chain(failed_test).find_map(Value::as_str);
            said.map(str::to_owned)
        });
        Some(said?.lines().next()?.to_owned())
    }
}
