//! The copy of the tree in which mutants are made, and the commands that run in it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::run::wait;
use crate::task_device::FOLDER_VARIABLE;

/// Folder of the copy, of each harness's output, and of cargo's builds.
const FOLDER: &str = "target/mutants";
const TREE: &str = "target/mutants/tree";
/// Cargo's output inside the copy.
const BUILT: &str = "target";

/// Makes the copy equal to the tree without touching unchanged files, so that little is rebuilt.
///
/// # Errors
/// If a file cannot be read, written or removed.
pub(crate) fn refresh() -> Result<(), String> {
    let list = ["ls-files", "-z", "-co", "--exclude-standard"];
    let output = Command::new("git").args(list).output();
    let output = output.map_err(|why| format!("git: {why}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    let listed = listed.split('\0').filter(|name| !name.is_empty());
    // Files that are listed but have been deleted do not count.
    let listed: BTreeSet<&Path> = listed.map(Path::new).filter(|path| path.exists()).collect();
    for name in &listed {
        let bytes = fs::read(name).map_err(|why| format!("{}: {why}", name.display()))?;
        write(name, &bytes)?;
    }
    // A file that was moved must not stay: a module with two files does not build.
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let failed = |why: std::io::Error| format!("{TREE}/{}: {why}", folder.display());
        for entry in fs::read_dir(Path::new(TREE).join(&folder)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = folder.join(entry.file_name());
            let is_folder = entry.file_type().map_err(failed)?.is_dir();
            if is_folder && name != Path::new(BUILT) {
                folders.push(name);
            } else if !is_folder && !listed.contains(name.as_path()) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// Writes a file of the copy, unless it already has this content.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(name: &Path, bytes: &[u8]) -> Result<(), String> {
    let to = Path::new(TREE).join(name);
    let failed = |why: std::io::Error| format!("{}: {why}", to.display());
    if fs::read(&to).is_ok_and(|copy| copy == bytes) {
        return Ok(());
    }
    fs::create_dir_all(to.parent().unwrap_or(&to)).map_err(failed)?;
    fs::write(&to, bytes).map_err(failed)
}

/// Returns cargo in the copy, with a target folder that all mutants share.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    let here = std::env::current_dir().unwrap_or_default();
    command.current_dir(TREE);
    command.env("CARGO_TARGET_DIR", here.join(FOLDER).join("target"));
    // Files that were fetched for the harnesses are not part of the tree.
    command.env(FOLDER_VARIABLE, here.join("target/device-lab"));
    command
}

/// Runs a command until it ends or the time is over, and returns its output; the output is also kept in a file named
/// after `name`. The status is `None` if the time was over.
///
/// # Errors
/// If the command does not start, or its file cannot be written.
pub(crate) fn run_to_file(
    command: &mut Command,
    name: &str,
    time: Duration,
) -> Result<(Option<ExitStatus>, String), String> {
    let safe = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(safe).collect();
    let path = Path::new(FOLDER).join(format!("{name}.txt"));
    let failed = |why: std::io::Error| format!("{}: {why}", path.display());
    let out = fs::File::create(&path).map_err(failed)?;
    let err = out.try_clone().map_err(failed)?;
    // A separate group, because the harness is a child of cargo's child.
    let mut child = command
        .stdout(out)
        .stderr(err)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let status = wait(&mut child, time).map_err(failed)?;
    let output = fs::read(&path).map_err(failed)?;
    Ok((status, String::from_utf8_lossy(&output).into_owned()))
}
