//! Runs programs of the machine.

use super::cell::Outcome;

/// Runs a program of the machine and returns its output.
pub(super) fn program(name: &str, args: &[&str]) -> Outcome {
    let shown = || format!("{name} {}", args.join(" "));
    let output = std::process::Command::new(name)
        .args(args)
        .output()
        .map_err(|why| format!("{}: {why}", shown()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{}: {}: {}", shown(), output.status, said.trim()))
        }
    }
}
