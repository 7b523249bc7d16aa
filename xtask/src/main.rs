//! Build tasks: `cargo xtask TASK`. CI calls `cargo xtask test` and nothing else.

mod run;
mod task_loom;
mod task_package;
mod task_test;
mod task_tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

  test            everything that needs no special device: format, tidy, lints, tests with each set
                  of features, docs, loom models, packages
  tidy            house rules: unsafe only in its rooms, dependency direction, module docs
  loom [FILTER]   the concurrency models of rb-index, every interleaving up to a bound
  package         packages each library crate and builds it from its package
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let outcome = match task.as_str() {
        "test" => task_test::run(),
        "tidy" => task_tidy::run(),
        "loom" => task_loom::run(args.next().as_deref()),
        "package" => task_package::run(),
        _ => Err(format!("no such task: {task:?}\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
