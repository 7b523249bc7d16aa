//! Each library crate stands alone: packaged, and built from its package.

use crate::run::cargo;

/// Packages the leaves one by one, and rb-core together with the three that it is made of, because
/// they are not published yet.
pub(crate) fn run() -> Result<(), String> {
    for leaf in ["rb-format", "rb-io", "rb-index"] {
        cargo(&["package", "-p", leaf, "--allow-dirty", "--quiet"])?;
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
    cargo(&[&["package"], &core[..], &["--allow-dirty", "--quiet"]].concat())
}
