//! Checks that each library crate stands alone: packages it and builds it from its package.

use crate::run::cargo;

/// Packages rb-core together with the three crates it depends on, because they are not published yet. Each is built
/// from its package, and those three depend on no crate of the workspace.
///
/// Uses a new folder each time: for the build of rb-core, cargo unpacks the three into its cache under the folder's
/// path and their version, and would reuse them in a later run.
pub(crate) fn run() -> Result<(), String> {
    let folder = format!("target/packaged/{}", std::process::id());
    let packaged = package(&folder);
    // A folder that cannot be removed is no failure.
    drop(std::fs::remove_dir_all(&folder));
    packaged
}

fn package(folder: &str) -> Result<(), String> {
    let crates = ["rb-format", "rb-io", "rb-index", "rb-core"];
    let named = crates.iter().flat_map(|name| ["-p", name]);
    let quiet = ["--allow-dirty", "--quiet", "--target-dir", folder];
    let args: Vec<&str> = ["package"].into_iter().chain(named).chain(quiet).collect();
    cargo(&args)
}
