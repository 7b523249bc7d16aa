//! Runs a program that measures, to its end.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::run::wait;

/// Folder of the benchmark's output.
pub(super) const FOLDER: &str = "target/bench";
/// Maximum time of a run in addition to its measured time, filling included. One of the peers can hang.
const PATIENCE: Duration = Duration::from_mins(2);
/// Runs a command that measures for `seconds`, and returns its output and errors.
pub(super) fn run(command: &mut Command, seconds: f64) -> Result<(String, String), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |why: std::io::Error| format!("{name}: {why}");
    let paths = ["out.txt", "err.txt"].map(|name| Path::new(FOLDER).join(name));
    let [out, err] = paths.each_ref().map(fs::File::create);
    let mut child = command
        .stdout(out.map_err(failed)?)
        .stderr(err.map_err(failed)?)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let time = PATIENCE + Duration::from_secs_f64(seconds);
    let status = wait(&mut child, time).map_err(failed)?;
    let [out, err] = paths.map(|path| fs::read(path).unwrap_or_default());
    let [out, err] = [out, err].map(|text| String::from_utf8_lossy(&text).into_owned());
    match status {
        Some(status) if status.success() => Ok((out, err)),
        Some(status) => {
            let said = err.lines().chain(out.lines()).last().unwrap_or_default();
            Err(format!("{name}: {status}: {said}"))
        }
        None => Err(format!("{name}: it hung")),
    }
}
