//! Checks that each library crate stands alone: packages it and builds it from its package.

use crate::run::cargo;

/// Packages the leaves one by one, and rb-core together with the three crates it depends on, because they are not
/// published yet.
///
/// Uses a new folder each time: for the build of rb-core, cargo unpacks the three into its cache under the folder's
/// path and their version, and would reuse them in a later run.
pub(crate) fn run() -> Result<(), String> {
    let folder = format!("target/packaged/{}", std::process::id());
    let packaged = package_all(&folder);
    // A folder that cannot be removed is no failure.
    drop(std::fs::remove_dir_all(&folder));
    packaged
}

fn package_all(folder: &str) -> Result<(), String> {
    let quiet = ["--allow-dirty", "--quiet", "--target-dir", folder];
    for leaf in ["rb-format", "rb-io", "rb-index"] {
        cargo(&[&["package", "-p", leaf], &quiet[..]].concat())?;
    }
    let core = [
        "-p",
        "rb-format",
        "-p",
        "rb-io",
        "-p",
        "rb-index",
        "-p",
        "rb-core",
    ];
    cargo(&[&["package"], &core[..], &quiet].concat())
}
