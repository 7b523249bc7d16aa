//! The static program.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::run::{cargo_output, cargo_with, checked};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns the target that links the C library statically. musl, because glibc loads parts of itself at run time even in a
/// static program.
pub(super) fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Builds the program and returns its path.
///
/// # Errors
/// If it does not build, is not static, or does not name its version and commit.
pub(super) fn build(env: &[(&str, &str)]) -> Result<PathBuf, String> {
    let target = target();
    let what = ["-p", "rb-cli", "--bin", "rb", "--target", &target];
    let build = ["build", "--quiet", "--profile", "dist"];
    cargo_with(&[&build[..], &what].concat(), env).map_err(|why| {
        format!("{why}; it needs `rustup target add {target}` and musl-gcc, of Debian's package musl-tools")
    })?;
    let metadata = cargo_output(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_slice(&metadata).map_err(|why| why.to_string())?;
    let folder = metadata["target_directory"].as_str().unwrap_or("target");
    let built = Path::new(folder).join(target).join("dist/rb");
    check_static(&built)?;
    check_version(&built, env)?;
    Ok(built)
}

/// Writes man pages and completions. Built like the program, whose crates it then shares.
pub(super) fn write_pages(folder: &str) -> Result<(), String> {
    let target = target();
    let run = ["run", "-q", "--profile", "dist", "--target", &target];
    let what = ["-p", "rb-cli", "--example", "pages", "--", folder];
    cargo_with(&[&run[..], &what].concat(), &[])
}

/// Refuses a program that asks for a loader, or for a library.
fn check_static(built: &Path) -> Result<(), String> {
    let headers = checked(Command::new("readelf").args(["-ld"]).arg(built))?;
    match needs_loader(&headers) {
        Some(line) => Err(format!("{} is not static: {line}", built.display())),
        None => Ok(()),
    }
}

/// Returns the line of readelf(1) that names a loader or a library.
fn needs_loader(headers: &str) -> Option<&str> {
    let marks = ["INTERP", "(NEEDED)"];
    let mut lines = headers.lines().map(str::trim);
    lines.find(|line| marks.iter().any(|mark| line.contains(mark)))
}

fn check_version(built: &Path, env: &[(&str, &str)]) -> Result<(), String> {
    let line = checked(Command::new(built).args(["--version", "--json"]))?;
    let line: Value = serde_json::from_str(&line).map_err(|why| why.to_string())?;
    let commit = env.iter().find(|(name, _)| *name == "RB_COMMIT");
    let commit = commit.map_or("unknown", |(_, commit)| commit);
    if line["version"] != VERSION || line["commit"] != commit {
        return Err(format!(
            "{} should be {VERSION} of commit {commit} and says {line}",
            built.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_or_a_library_is_not_static() {
        let loader = "  INTERP         0x0000000000000318 0x0000000000000318\n";
        let library = " 0x0001 (NEEDED)             Shared library: [libc.so.6]\n";
        let fixed = "  LOAD           0x0000000000000000\n  GNU_STACK      0x0\n";
        assert!(needs_loader(&[fixed, loader].concat()).is_some());
        assert!(needs_loader(&[fixed, library].concat()).is_some());
        assert_eq!(needs_loader(fixed), None);
        // The test's own program has both.
        let own = std::env::current_exe().unwrap();
        assert!(check_static(&own).unwrap_err().contains("is not static"));
    }
}
