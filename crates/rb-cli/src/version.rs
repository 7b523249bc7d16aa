//! The version of the program: its format, what it was compiled with, and its commit.

use std::sync::LazyLock;

use rb_format::{FORMAT_VERSION, Features};
use serde::Serialize;

/// The commit, or "unknown" for a build outside of a repository.
const COMMIT: &str = env!("RB_COMMIT");

/// Features that a program can be compiled with or without.
const FEATURES: [(&str, bool); 4] = [
    ("io_uring", cfg!(feature = "io-uring")),
    ("zstd", cfg!(feature = "zstd")),
    ("libblkio", cfg!(feature = "libblkio")),
    ("tracing", cfg!(feature = "tracing")),
];

/// The line of `rb -V`.
pub(crate) static SHORT: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    format!("{version} (format {FORMAT_VERSION}, commit {COMMIT})")
});

/// The lines of `rb --version`.
pub(crate) static LONG: LazyLock<String> = LazyLock::new(|| {
    let version = VersionLine::new();
    let features = match version.built_with.is_empty() {
        true => "none".to_owned(),
        false => version.built_with.join(", "),
    };
    let lines = [
        version.version.to_owned(),
        format!("format    {}", version.format_version),
        format!(
            "knows     compatible bits {:#x}, read-only compatible {:#x}, incompatible {:#x}",
            version.known_compatible,
            version.known_read_only_compatible,
            version.known_incompatible,
        ),
        format!("features  {features}"),
        format!("commit    {}", version.commit),
    ];
    lines.join("\n")
});

/// The result of `rb --version --json`.
#[derive(Serialize)]
pub(crate) struct VersionLine {
    version: &'static str,
    format_version: u32,
    known_compatible: u64,
    known_read_only_compatible: u64,
    known_incompatible: u64,
    built_with: Vec<&'static str>,
    commit: &'static str,
}

impl VersionLine {
    /// Describes this program.
    pub(crate) fn new() -> VersionLine {
        let built_with = FEATURES.iter().filter(|(_, on)| *on);
        VersionLine {
            version: env!("CARGO_PKG_VERSION"),
            format_version: FORMAT_VERSION,
            known_compatible: Features::KNOWN.compatible,
            known_read_only_compatible: Features::KNOWN.read_only_compatible,
            known_incompatible: Features::KNOWN.incompatible,
            built_with: built_with.map(|(name, _)| *name).collect(),
            commit: COMMIT,
        }
    }
}
