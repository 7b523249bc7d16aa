//! Tests the Python wheel inside of the engines that load it: LMCache, vLLM and SGLang, on the CPU.
//!
//! Makes the environments it needs from the Python registry. Programs in `crates/rb-python/door` do the work; each
//! reports its steps, and the table at the end has a row for each.

mod environments;
mod plan;
mod results;
mod runner;
mod steps;
mod wheels;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use environments::Door;
use plan::{Host, Plan};
use results::Results;
use runner::Runner;

use crate::task_wheel;

/// Folder of the environments, unless the environment variable names another one.
const FOLDER: &str = "target/door";
const FOLDER_VARIABLE: &str = "RB_DOOR";

/// Duration of the random operations of each host.
const MINUTES: f64 = 10.0;
const MINUTES_QUICK: f64 = 0.2;

/// The options of `cargo xtask door-test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run the steps that fit CI's time, with a wheel that is not optimised; the table names the others
    #[arg(long)]
    quick: bool,
    /// Test only this engine
    #[arg(long, value_name = "ENGINE")]
    host: Option<Host>,
    /// Duration of the random operations in each engine [default: 10, with --quick 0.2]
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// Run only the steps whose name contains this
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "",
        hide_default_value = true
    )]
    step: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Builds the wheel, makes the environments and runs the steps.
///
/// # Errors
/// If something cannot be fetched or built, or a step fails.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let folder = std::env::var_os(FOLDER_VARIABLE).unwrap_or_else(|| FOLDER.into());
    let tools = task_wheel::tools()?;
    let wheel = task_wheel::build(&tools, options.quick)?;
    let door = Door::new(PathBuf::from(folder), wheel)?;
    let quick = if options.quick {
        MINUTES_QUICK
    } else {
        MINUTES
    };
    let plan = Plan {
        quick: options.quick,
        hosts: options.host.map_or(Host::ALL.to_vec(), |host| vec![host]),
        minutes: options.minutes.unwrap_or(quick),
    };
    let mut runner = Runner::new(&door, &options.step, Results::default())?;
    steps::run(&plan, &tools, &mut runner)?;
    conclude(&runner.finish(), options.json)
}

/// Prints the results.
fn conclude(results: &Results, as_json: bool) -> Result<(), String> {
    let text = match as_json {
        true => results.json(),
        false => results.table(),
    };
    let printed = std::io::stdout().write_all(text.as_bytes());
    printed.map_err(|why| why.to_string())?;
    match results.failures() {
        0 => Ok(()),
        count => Err(format!("{count} steps failed")),
    }
}
