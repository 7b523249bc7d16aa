//! Engines by name, as written in a configuration, on a command line or in a binding.

use std::fmt;
use std::str::FromStr;

/// The engine to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
#[non_exhaustive]
pub enum EngineKind {
    /// The best engine that works here; rejected engines are reported with the reason.
    #[default]
    Auto,
    /// `pread`, `pwrite` and `fdatasync` on a bounded pool of threads.
    Posix,
    /// The kernel's submission and completion rings.
    IoUring,
    /// NVMe passthrough on a character node.
    UringCmd,
    /// libblkio drivers, such as vhost-user.
    Libblkio,
}

impl EngineKind {
    /// Every kind, in order of declaration.
    pub const ALL: [Self; 5] = [
        Self::Auto,
        Self::Posix,
        Self::IoUring,
        Self::UringCmd,
        Self::Libblkio,
    ];

    /// Returns the name that [`FromStr`] parses and [`Display`](fmt::Display) prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Posix => "posix",
            Self::IoUring => "io_uring",
            Self::UringCmd => "uring_cmd",
            Self::Libblkio => "libblkio",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The error returned for a name that is not an engine.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown engine {name:?}: one of auto, posix, io_uring, uring_cmd, libblkio is expected")]
pub struct UnknownEngine {
    /// The rejected name.
    pub name: String,
}

impl FromStr for EngineKind {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        // Accept the dash that command line users type for an underscore.
        let wanted = name.replace('-', "_");
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == wanted)
            .ok_or_else(|| UnknownEngine {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for kind in EngineKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("io-uring".parse(), Ok(EngineKind::IoUring));
        let error = "aio".parse::<EngineKind>().unwrap_err();
        assert!(error.to_string().contains("\"aio\""), "{error}");
    }
}
