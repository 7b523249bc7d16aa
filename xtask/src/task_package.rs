//! Each library crate stands alone: packaged, and built from its package.

use crate::run::cargo;

/// Packages the leaves one by one, and rb-core together with the three that it is made of, because
/// they are not published yet.
///
/// In a folder of its own each time: cargo unpacks the three for the build of rb-core into its cache under the
/// folder's path, version and all, and takes what it finds there another time for the same.
pub(crate) fn run() -> Result<(), String> {
    let folder = format!("target/packaged/{}", std::process::id());
    let packaged = package_all(&folder);
    // What is left behind is only in the way.
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
