//! Finds the commit that `rb --version` shows.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=RB_COMMIT");
    // Without a path cargo would run this after each change of any file.
    println!("cargo::rerun-if-changed=build.rs");
    let commit = std::env::var("RB_COMMIT").ok();
    let commit = commit
        .filter(|commit| !commit.trim().is_empty())
        .or_else(of_git);
    let commit = commit.as_deref().map_or("unknown", str::trim);
    println!("cargo::rustc-env=RB_COMMIT={commit}");
}

/// Returns the commit that is checked out, if this folder is tracked as a part of raw-block. A copy of the sources within
/// another repository has no commit.
fn of_git() -> Option<String> {
    if git(&["rev-parse", "--show-prefix"])? != "crates/rb-cli/" {
        return None;
    }
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    // HEAD changes with the branch, its log with each commit.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        // A path that does not exist would run this each time.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
