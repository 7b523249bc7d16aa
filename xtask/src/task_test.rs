//! Runs everything that needs no special device.

use crate::run::{LIBRARIES, cargo, cargo_output, cargo_with};
use crate::{task_loom, task_package, task_tidy};

/// Libraries that run the same code without their features, as far as it is compiled: the features add derives, or
/// engines to the list of those that are tested. So the tests of the workspace suffice.
const SAME_WITHOUT_FEATURES: [&str; 2] = ["rb-index", "rb-testkit"];

/// Runs cheap checks first, so that a slip shows within seconds.
pub(crate) fn run() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])?;
    task_tidy::run()?;
    let mut left_out: Vec<String> = check_dependencies()?.into_iter().collect();
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])?;
    // Tests record here what this machine cannot run.
    let skips = std::env::current_dir()
        .map_err(|why| why.to_string())?
        .join("target/skips.txt");
    drop(std::fs::remove_file(&skips));
    let skips = skips.to_string_lossy().into_owned();
    // Three packages have more tests with libblkio, and run all of them with it; the others run without it.
    let libblkio = "rb-io/libblkio,rb-testkit/libblkio,rb-tests/libblkio";
    let with = ["-p", "rb-io", "-p", "rb-testkit", "-p", "rb-tests"];
    let with = [&with[..], &["--features", libblkio]].concat();
    let clippy = ["clippy", "--all-targets", "--", "-D", "warnings"];
    cargo(&[&clippy[..2], &with, &["--quiet"], &clippy[2..]].concat())?;
    let but = ["rb-io", "rb-testkit", "rb-tests"].map(|name| format!("--exclude={name}"));
    let but: Vec<&str> = but.iter().map(String::as_str).collect();
    let recorded = [("RB_SKIPS", skips.as_str())];
    cargo_with(&[&["test", "--workspace"], &but[..]].concat(), &recorded)?;
    cargo_with(&[&["test"], &with[..]].concat(), &recorded)?;
    for library in LIBRARIES {
        // Alone and without default features: a combination that another project may choose.
        let alone = ["-p", library, "--no-default-features", "--quiet"];
        if SAME_WITHOUT_FEATURES.contains(&library) {
            cargo(&[&["check", "--all-targets"], &alone[..]].concat())?;
        } else {
            cargo(&[&["test"], &alone[..]].concat())?;
        }
    }
    // The workspace was tested with both; here each is alone.
    for feature in ["tracing", "prometheus"] {
        let alone = ["-p", "rb-core", "--no-default-features", "--features"];
        cargo(&[&clippy[..2], &alone, &[feature, "--quiet"], &clippy[2..]].concat())?;
    }
    cargo_with(
        &["doc", "--workspace", "--no-deps", "--quiet"],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    task_loom::run(None, task_loom::Form::Quick)?;
    task_package::run()?;
    let skipped = std::fs::read_to_string(&skips).unwrap_or_default();
    left_out.extend(skipped.lines().map(str::to_owned));
    eprintln!("== {} skipped", left_out.len());
    left_out.iter().for_each(|line| eprintln!("   {line}"));
    Ok(())
}

/// Checks licences, versions and sources of all dependencies with cargo-deny, which takes minutes to compile and so is
/// used only where it is installed. Returns a note if the check was left out. Advisories need a network and are checked
/// by hand: `cargo deny check advisories`.
fn check_dependencies() -> Result<Option<String>, String> {
    if cargo_output(&["deny", "--version"]).is_err() {
        return Ok(Some(
            "licences, versions and sources of the dependencies: cargo-deny is not installed"
                .into(),
        ));
    }
    cargo(&["deny", "check", "licenses", "bans", "sources"])?;
    Ok(None)
}
