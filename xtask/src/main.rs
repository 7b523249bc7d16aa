//! Build tasks: `cargo xtask TASK`. CI calls `cargo xtask test` and nothing else.

mod programs;
mod run;
mod task_bench;
mod task_device;
mod task_fuzz;
mod task_loom;
mod task_miri;
mod task_mutants;
mod task_package;
mod task_profile;
mod task_test;
mod task_tidy;

use std::process::ExitCode;

use crate::programs::Program;

const HELP: &str = "\
cargo xtask TASK

  test            everything that needs no special device: format, tidy, lints, tests with each set
                  of features, docs, loom models, packages
  tidy            house rules: unsafe only in its rooms, dependency direction, module docs, mutants that match
  loom [FILTER]   the concurrency models of rb-index, every interleaving up to a bound; says how many
  crash [OPTIONS] crashes a store on a simulated device at every write, opens and checks what is left;
                  --minutes N, --seed S, --runs N, --trace, --json
  exhaust [OPTIONS] every schedule of a few operations over a store of two slots, with every crash in each;
                  --operations N, --only LIST, --initial empty|one|both, --seconds N, --seed S, --json
  race [OPTIONS]  real threads on small stores that are dropped, closed and killed, for 60 s per engine; compares
                  every key with an oracle; --seconds N, or --kill-rounds N: until N were killed;
                  --threads N, --each-batch, --engine posix|io_uring|all, --seed S, --json
  fuzz ...        coverage-guided fuzzing of every decoder; needs a C++ compiler
  miri            what the interpreter of undefined behaviour can run; takes a nightly toolchain with miri
  mutants [FILTER] makes each fault of tests/mutants in a copy of the tree; its harness must find it; FILTER is a
                  part of MUTANT/HARNESS; --seconds N for each, --json
  device-test [OPTIONS] every engine on emulated drives under real kernels, and on loop devices; fetches QEMU
                  and kernels into target/device-lab; --quick, --machine FILTER (of machine/device/engine),
                  --json; or on hardware: --device PATH, which asks for the serial number; --serial S
  profile ARGS    a flame graph of `rb bench ARGS`, in target/profile/flame.svg; needs perf
  bench [OPTIONS] our store against fio, foyer and the wheel of LMCache, in turn, on the same files; --quick,
                  --target disk|loop|tmpfs|all, or null alone: what an async call costs more,
                  or background first: what the store's own work adds to gets on a drive that is the bottleneck, with
                  --service FILTER, --rounds N, --seconds S, --json; --case FILTER, --rounds N, --seconds S, --dir PATH, --json,
                  --peers fio,foyer,wheel, --lmcache (its whole core too: installs torch, 7 GB),
                  --rb PROGRAM (to measure instead of a build of ours)
  package         packages each library crate and builds it from its package
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let outcome = match task.as_str() {
        "test" => task_test::run(),
        "tidy" => task_tidy::run(),
        "loom" => task_loom::run(args.next().as_deref(), task_loom::Form::Full),
        "mutants" => task_mutants::run(args),
        "bench" => task_bench::run(args),
        "device-test" => task_device::run(args),
        "fuzz" => task_fuzz::run(args),
        "miri" => task_miri::run(),
        "profile" => task_profile::run(args),
        "package" => task_package::run(),
        _ => match Program::named(&task) {
            Some(program) => program.run(args),
            None => Err(format!("no such task: {task:?}\n{HELP}")),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
