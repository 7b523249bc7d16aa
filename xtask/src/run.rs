//! Runs a command as one step of a task.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Library crates, leaves first.
pub(crate) const LIBRARIES: [&str; 5] = ["rb-format", "rb-io", "rb-index", "rb-core", "rb-testkit"];

/// Interval at which a child is polled.
const WAIT_STEP: Duration = Duration::from_millis(20);

/// Runs cargo, and prints the step and its duration.
pub(crate) fn cargo(args: &[&str]) -> Result<(), String> {
    cargo_with(args, &[])
}

/// Runs cargo with environment variables.
pub(crate) fn cargo_with(args: &[&str], env: &[(&str, &str)]) -> Result<(), String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    program_with("cargo", &cargo, args, env)
}

/// Runs a program, shown as `name`, and prints the step and its duration.
pub(crate) fn program_with(
    name: &str,
    path: &str,
    args: &[&str],
    env: &[(&str, &str)],
) -> Result<(), String> {
    let words: Vec<String> = env
        .iter()
        .map(|(name, value)| format!("{name}={value:?} "))
        .collect();
    let line = format!("{}{name} {}", words.concat(), args.join(" "));
    eprintln!("== {line}");
    let start = Instant::now();
    let status = Command::new(path)
        .args(args)
        .envs(env.iter().copied())
        .status()
        .map_err(|why| format!("{line}: {why}"))?;
    eprintln!("== {:.1} s", start.elapsed().as_secs_f64());
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}"))
    }
}

/// Runs cargo and returns what it printed.
pub(crate) fn cargo_output(args: &[&str]) -> Result<Vec<u8>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(args)
        .output()
        .map_err(|why| why.to_string())?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Runs a command and returns its standard output. An error has both outputs.
pub(crate) fn checked(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|why| format!("{shown}: {why}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{shown}: {}\n{text}{errors}", output.status))
}

/// Waits for a child that has its own process group. Returns `None` if its time was over and the group was killed. The
/// time is counted in steps: a step during which the whole machine stood still counts like any other.
pub(crate) fn wait(child: &mut Child, time: Duration) -> std::io::Result<Option<ExitStatus>> {
    let mut waited = Duration::ZERO;
    while waited < time {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(WAIT_STEP);
        waited += WAIT_STEP;
    }
    let group = format!("-{}", child.id());
    Command::new("kill")
        .args(["-KILL", "--", &group])
        .status()?;
    child.wait()?;
    Ok(None)
}
