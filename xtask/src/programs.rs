//! The test programs of the whole store: binaries of `rb-tests`, each run by `cargo xtask NAME`.

use crate::run::cargo;

/// A binary of `rb-tests` that ends with a failure when it finds a violation. With `--json` it prints a report
/// whose `violation`, or first of `violations`, says what is wrong.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// How it is built.
    pub(crate) profile: &'static [&'static str],
    /// The option that bounds a run, and how many seconds its unit has.
    pub(crate) limit: Option<(&'static str, f64)>,
}

// Only what simulates all is a release build: debug assertions see more.
const PROGRAMS: [Program; 3] = [
    Program {
        name: "crash",
        profile: &["--release"],
        limit: Some(("--minutes", 60.0)),
    },
    Program {
        name: "exhaust",
        profile: &["--release"],
        limit: Some(("--seconds", 1.0)),
    },
    Program {
        name: "race",
        profile: &[],
        limit: Some(("--seconds", 1.0)),
    },
];

impl Program {
    pub(crate) fn named(name: &str) -> Option<&'static Program> {
        PROGRAMS.iter().find(|program| program.name == name)
    }

    /// What follows `cargo build` or `cargo run`.
    pub(crate) fn selection(&self) -> Vec<&'static str> {
        let mut words = vec!["-p", "rb-tests", "--bin", self.name];
        words.extend_from_slice(self.profile);
        words
    }

    /// Builds and runs the program.
    ///
    /// # Errors
    /// It does not build, or finds a violation.
    pub(crate) fn run(&self, args: impl Iterator<Item = String>) -> Result<(), String> {
        let args: Vec<String> = args.collect();
        let mut line = vec!["run", "-q"];
        line.extend(self.selection());
        line.push("--");
        line.extend(args.iter().map(String::as_str));
        cargo(&line)
    }
}
