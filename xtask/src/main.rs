//! Build tasks: `cargo xtask TASK`. CI calls `cargo xtask test` and nothing else.

mod programs;
mod run;
mod task_bench;
mod task_device;
mod task_dist;
mod task_door;
mod task_fuzz;
mod task_loom;
mod task_miri;
mod task_mutants;
mod task_package;
mod task_profile;
mod task_test;
mod task_tidy;
mod task_wheel;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Builds, checks, tests and measures the workspace. `cargo xtask help TASK` shows the options of a task.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run everything that needs no special device
    ///
    /// Format, tidy, lints, tests with each set of features, docs, loom models, packages. CI runs this.
    Test,
    /// Check the house rules
    ///
    /// Unsafe code only where it is allowed, dependency direction, floors, module docs, mutants that match.
    Tidy,
    /// Run the concurrency models of rb-index
    ///
    /// Explores every interleaving up to a bound and counts them for each model.
    Loom {
        /// Run only the models whose name contains this.
        filter: Option<String>,
    },
    /// Crash a store on a simulated device at every write, for 1 minute; open and check each image
    ///
    /// Options, among others: --minutes N, --seed S, --runs N, --trace, --json. `cargo xtask crash --help` builds the
    /// program and shows all with their defaults.
    #[command(disable_help_flag = true)]
    Crash(Passed),
    /// Run every schedule of a few operations over a store of two slots, with every crash in each
    ///
    /// Options, among others: --operations N, --only LIST, --initial empty|one|both, --seconds N, --seed S, --json.
    /// `cargo xtask exhaust --help` builds the program and shows all with their defaults.
    #[command(disable_help_flag = true)]
    Exhaust(Passed),
    /// Run threads on stores that are dropped, closed and killed, for 60 s per engine; compare all results with an
    /// oracle
    ///
    /// Options: --seconds N, or --kill-rounds N (until N were killed), --threads N, --each-batch, --engine
    /// `posix|io_uring|all`, --seed S, --json. `cargo xtask race --help` builds the program and shows all with their
    /// defaults.
    #[command(disable_help_flag = true)]
    Race(Passed),
    /// Fuzz decoders, guided by coverage. Needs a C++ compiler
    ///
    /// A new input is saved in target/fuzz/corpus/TARGET, an input that fails in target/fuzz/failed/TARGET.
    Fuzz(task_fuzz::Options),
    /// Run everything that works under Miri, to find undefined behaviour. Needs a nightly toolchain with miri
    Miri,
    /// Make each fault of tests/mutants in a copy of the tree; its harness must find it
    Mutants(task_mutants::Options),
    /// Test every engine on emulated drives under real kernels and on loop devices, or on hardware
    ///
    /// Fetches QEMU and kernels into target/device-lab, or into the folder that `RB_DEVICE_LAB` names.
    DeviceTest(task_device::Options),
    /// Draw a flame graph of `rb bench ARGS` into target/profile/flame.svg. Needs perf
    Profile {
        /// The arguments of `rb bench`, such as --store PATH --op get.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Measure the store against fio, foyer and the wheel of LMCache, in turn, on the same files
    ///
    /// Prints a table; writes it, JSON and an HTML page to target/bench.
    Bench(task_bench::Options),
    /// Package each library crate and build it from its package
    Package,
    /// Build a release into target/dist: the static program, man pages, completions, an archive and a Debian package
    ///
    /// Needs the musl target of Rust, musl-gcc and cargo-deb. Lists each file with its size and SHA-256.
    Dist(task_dist::Options),
    /// Build the Python wheel into target/wheel. Needs Python 3.10 or later
    Wheel(task_wheel::Options),
    /// Test the wheel in LMCache, vLLM and SGLang. Needs the Python registry and Python 3.11 to 3.13
    ///
    /// Makes environments of 7 GB in target/door, or in the folder that `RB_DOOR` names.
    DoorTest(task_door::Options),
}

/// Options that are passed on to a program, which parses them.
#[derive(Debug, Args)]
struct Passed {
    /// The options of the program.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<(), String> {
    match task {
        Task::Test => task_test::run(),
        Task::Tidy => task_tidy::run(),
        Task::Loom { filter } => task_loom::run(filter.as_deref(), task_loom::Form::Full),
        Task::Crash(passed) => programs::CRASH.run(&passed.options),
        Task::Exhaust(passed) => programs::EXHAUST.run(&passed.options),
        Task::Race(passed) => programs::RACE.run(&passed.options),
        Task::Fuzz(options) => task_fuzz::run(&options),
        Task::Miri => task_miri::run(),
        Task::Mutants(options) => task_mutants::run(&options),
        Task::DeviceTest(options) => task_device::run(&options),
        Task::Profile { args } => task_profile::run(&args),
        Task::Bench(options) => task_bench::run(&options),
        Task::Package => task_package::run(),
        Task::Dist(options) => task_dist::run(&options),
        Task::Wheel(options) => task_wheel::run(&options),
        Task::DoorTest(options) => task_door::run(&options),
    }
}
