//! The harnesses that find mutants, and how to read their output.

use serde_json::Value;

use crate::programs::Program;

/// A command that must find a mutant.
pub(crate) struct Harness {
    /// Arguments of `cargo`, or of `cargo xtask` if that comes first.
    pub(crate) line: String,
    kind: Kind,
}

enum Kind {
    Program(&'static Program),
    Loom,
    Device,
    /// `cargo test …`, one or more tests.
    Test,
}

impl Harness {
    /// Reads `cargo xtask HARNESS [OPTIONS]` or `cargo test [OPTIONS]`.
    ///
    /// # Errors
    /// If it is another command.
    pub(crate) fn read(command: &str) -> Result<Harness, String> {
        let test = command.strip_prefix("cargo ");
        if let Some(line) = test.filter(|line| line.starts_with("test ")) {
            let (line, kind) = (line.to_owned(), Kind::Test);
            return Ok(Harness { line, kind });
        }
        let line = command.strip_prefix("cargo xtask ");
        let line = line
            .ok_or_else(|| format!("{command:?} is neither `cargo xtask …` nor `cargo test …`"))?;
        let kind = match line.split(' ').next().unwrap_or_default() {
            "loom" => Kind::Loom,
            "device-test" => Kind::Device,
            name => Kind::Program(
                Program::named(name).ok_or_else(|| format!("{name:?} is not a harness"))?,
            ),
        };
        let line = line.to_owned();
        Ok(Harness { line, kind })
    }

    /// Returns the cargo command that builds the harness, and its environment.
    pub(crate) fn build(&self) -> (Vec<&str>, &'static [(&'static str, &'static str)]) {
        match self.kind {
            Kind::Test => {
                let options = self.line.split(" -- ").next().unwrap_or_default();
                let mut words: Vec<&str> = options.split(' ').collect();
                words.push("--no-run");
                (words, &[])
            }
            Kind::Program(program) => ([vec!["build"], program.selection()].concat(), &[]),
            Kind::Device => (vec!["build", "-p", "rb-tests", "--bin", "device"], &[]),
            Kind::Loom => {
                let line = "test -p rb-index --release --lib --target-dir target/loom --no-run";
                (line.split(' ').collect(), &[("RUSTFLAGS", "--cfg rb_loom")])
            }
        }
    }

    /// Returns the arguments of `cargo` for a run of at most `seconds` that prints a report.
    pub(crate) fn words(&self, seconds: u32) -> Vec<String> {
        let words = self.line.split(' ').map(str::to_owned);
        if let Kind::Test = self.kind {
            return words.collect();
        }
        let mut words: Vec<String> = std::iter::once("xtask".to_owned()).chain(words).collect();
        if !matches!(self.kind, Kind::Loom) {
            words.push("--json".into());
        }
        if let Kind::Program(program) = self.kind {
            let (option, unit) = program.limit;
            let time = (f64::from(seconds) / unit).to_string();
            words.extend([option.to_owned(), time]);
        }
        words
    }

    /// Returns the violation that the harness reported, if any.
    pub(crate) fn violation(&self, output: &str) -> Option<String> {
        if let Kind::Loom | Kind::Test = self.kind {
            // The line after the location of the panic.
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
