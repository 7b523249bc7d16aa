//! Test programs for the whole store: binaries of `rb-tests`, each run by `cargo xtask NAME`.

use crate::run::cargo;

/// A binary of `rb-tests` that exits with a failure when it finds a violation. With `--json` it prints a report whose
/// `violation`, or first of `violations`, describes the fault.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// Cargo arguments that select the build profile.
    pub(crate) profile: &'static [&'static str],
    /// Option that bounds a run, and the seconds in its unit.
    pub(crate) limit: (&'static str, f64),
}

// Only the programs that simulate everything are release builds: debug assertions find more.
pub(crate) static CRASH: Program = Program {
    name: "crash",
    profile: &["--release"],
    limit: ("--minutes", 60.0),
};
pub(crate) static EXHAUST: Program = Program {
    name: "exhaust",
    profile: &["--release"],
    limit: ("--seconds", 1.0),
};
pub(crate) static RACE: Program = Program {
    name: "race",
    profile: &[],
    limit: ("--seconds", 1.0),
};

impl Program {
    pub(crate) fn named(name: &str) -> Option<&'static Program> {
        [&CRASH, &EXHAUST, &RACE]
            .into_iter()
            .find(|program| program.name == name)
    }

    /// Returns the arguments after `cargo build` or `cargo run`.
    pub(crate) fn selection(&self) -> Vec<&'static str> {
        let mut words = vec!["-p", "rb-tests", "--bin", self.name];
        words.extend_from_slice(self.profile);
        words
    }

    /// Builds and runs the program.
    ///
    /// # Errors
    /// If it does not build, or finds a violation.
    pub(crate) fn run(&self, args: &[String]) -> Result<(), String> {
        let mut line = vec!["run", "-q"];
        line.extend(self.selection());
        line.push("--");
        line.extend(args.iter().map(String::as_str));
        cargo(&line)
    }
}
