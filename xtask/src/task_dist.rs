//! Builds what a release consists of: the static program, its man pages and completions, an archive and a Debian package.

mod check;
mod program;
mod root;
mod tree;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::{cargo_with, checked, program_with};

/// The folder of the results. The assets of the Debian package name it, too (`crates/rb-cli/Cargo.toml`).
const OUT: &str = "target/dist";
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Then install the Debian package in a clean Debian, and try the program, its pages and its unit there. Needs root,
    /// debootstrap and a Debian archive among the machine's sources.
    #[arg(long)]
    check: bool,
    /// Check the packages of the last run, without building them again.
    #[arg(long, requires = "check")]
    no_build: bool,
}

/// Builds everything from an empty folder, then lists it.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let arch = std::env::consts::ARCH;
    let name = format!("raw-block-{VERSION}-{arch}-linux");
    if !options.no_build {
        build(&name)?;
    }
    let listed = list()?;
    if options.check {
        check::run(Path::new(&format!("{OUT}/{name}.deb")))?;
    }
    eprintln!("== {OUT}");
    listed.iter().for_each(|line| eprintln!("   {line}"));
    Ok(())
}

fn build(name: &str) -> Result<(), String> {
    match fs::remove_dir_all(OUT) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{OUT}: {why}"));
        }
        _ => fs::create_dir_all(OUT).map_err(|why| format!("{OUT}: {why}"))?,
    }
    let commit = commit();
    let env = [("RB_COMMIT", commit.as_str())];
    let built = program::build(&env)?;
    let pages = format!("{OUT}/pages");
    program::write_pages(&pages)?;
    let tree = format!("{OUT}/tree");
    tree::lay_out(&built, Path::new(&pages), Path::new(&tree))?;
    fs::remove_dir_all(&pages).map_err(|why| format!("{pages}: {why}"))?;
    fs::copy(&built, format!("{OUT}/rb")).map_err(|why| format!("{OUT}/rb: {why}"))?;
    archive(name)?;
    debian_package(name, &env)?;
    let names = ["rb".into(), format!("{name}.tar.gz"), format!("{name}.deb")];
    let sums = checked(Command::new("sha256sum").args(&names).current_dir(OUT))?;
    fs::write(format!("{OUT}/SHA256SUMS"), sums).map_err(|why| format!("{OUT}/SHA256SUMS: {why}"))
}

/// Returns the commit that the program names: that of `RB_COMMIT`, or the one that is checked out, marked if files differ
/// from it.
fn commit() -> String {
    let set = std::env::var("RB_COMMIT").unwrap_or_default();
    if !set.is_empty() {
        return set;
    }
    let git = ["describe", "--always", "--dirty", "--abbrev=12"];
    let found = checked(Command::new("git").args(git).args(["--exclude", "*"]));
    found.map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

/// Packs the tree. The same files give the same bytes: times, owners and order are fixed.
fn archive(name: &str) -> Result<(), String> {
    let time = std::env::var("SOURCE_DATE_EPOCH").ok();
    let time =
        time.or_else(|| checked(Command::new("git").args(["log", "-1", "--format=%ct"])).ok());
    let time = format!("--mtime=@{}", time.as_deref().map_or("0", str::trim));
    let rename = format!("--transform=s,^tree,{name},");
    let file = format!("{OUT}/{name}.tar.gz");
    let owner = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner"];
    let what = [time.as_str(), &rename, "-C", OUT, "-czf", &file, "tree"];
    program_with("tar", "tar", &[&owner[..], &what].concat(), &[])
}

fn debian_package(name: &str, env: &[(&str, &str)]) -> Result<(), String> {
    let file = format!("{OUT}/{name}.deb");
    let target = program::target();
    let built = ["--no-build", "--no-strip", "--target", &target];
    let args = ["deb", "-q", "-p", "rb-cli", "--output", &file];
    cargo_with(&[&args[..], &built].concat(), env).map_err(|why| {
        format!("{why}; if cargo has no such command: cargo install --locked cargo-deb")
    })
}

/// Returns a line for each artefact: size in bytes, SHA-256, name. Compares each with its sum.
fn list() -> Result<Vec<String>, String> {
    let path = format!("{OUT}/SHA256SUMS");
    let sums = fs::read_to_string(&path).map_err(|why| format!("{path}: {why}"))?;
    let check = ["--check", "--quiet", "SHA256SUMS"];
    checked(Command::new("sha256sum").args(check).current_dir(OUT))?;
    let mut lines = Vec::new();
    for line in sums.lines() {
        let (sum, name) = line
            .split_once("  ")
            .ok_or_else(|| format!("{path}: {line:?} is no sum and name"))?;
        let file = format!("{OUT}/{name}");
        let bytes = fs::metadata(&file).map_err(|why| format!("{file}: {why}"))?;
        lines.push(format!("{:>9}  {sum}  {name}", bytes.len()));
    }
    Ok(lines)
}
