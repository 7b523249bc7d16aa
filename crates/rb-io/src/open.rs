//! Chooses an engine for a device: the only `match` over engine names.

use std::sync::Arc;

use crate::device::{Device, DeviceKind};
use crate::engine::Engine;
use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::posix::PosixEngine;

/// An engine, and the engines rejected before it.
#[derive(Debug)]
pub struct Opened {
    /// The engine that runs.
    pub engine: Arc<dyn Engine>,
    /// Engines that `Auto` tried before, with the reason for rejection.
    pub rejected: Vec<Rejected>,
}

/// An engine that was tried and does not run here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// The engine.
    pub kind: EngineKind,
    /// Reason why it does not run.
    pub reason: String,
}

/// Opens an engine over a device.
///
/// [`EngineKind::Auto`] tries io_uring, then posix, and reports rejected engines with the reason;
/// for a character node it tries only NVMe passthrough, for a socket only libblkio. An explicit
/// kind that cannot run is an error; it never falls back to another engine.
///
/// # Errors
/// [`OpenError::NotInBuild`], or [`OpenError::Engine`] with the step that failed.
///
/// ```
/// use rb_io::{Device, EngineKind};
///
/// # let dir = tempfile::tempdir()?;
/// let device = Device::create_file(&dir.path().join("device"), 1 << 20, false)?;
/// let opened = rb_io::open(device, EngineKind::Posix)?;
/// assert_eq!(opened.engine.name(), "posix");
/// assert!(opened.rejected.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open(device: impl Into<Arc<Device>>, kind: EngineKind) -> Result<Opened, OpenError> {
    let device = device.into();
    let mut rejected = Vec::new();
    let mut last = OpenError::NotInBuild { kind };
    let kinds = match kind {
        EngineKind::Auto => candidates(device.kind()),
        _ => std::slice::from_ref(&kind),
    };
    for &kind in kinds {
        match open_one(&device, kind) {
            Ok(engine) => return Ok(Opened { engine, rejected }),
            Err(error) => {
                rejected.push(Rejected {
                    kind,
                    reason: reason(&error),
                });
                last = error;
            }
        }
    }
    Err(last)
}

/// Returns the engines that `Auto` tries on this kind of node, best first.
pub(crate) fn candidates(node: DeviceKind) -> &'static [EngineKind] {
    match node {
        DeviceKind::Socket => &[EngineKind::Libblkio],
        DeviceKind::Char => &[EngineKind::UringCmd],
        _ => &[EngineKind::IoUring, EngineKind::Posix],
    }
}

pub(crate) fn open_one(
    device: &Arc<Device>,
    kind: EngineKind,
) -> Result<Arc<dyn Engine>, OpenError> {
    if device.kind() == DeviceKind::Char && matches!(kind, EngineKind::Posix | EngineKind::IoUring)
    {
        return Err(needs_block_node(device, kind));
    }
    if device.kind() == DeviceKind::Socket && kind != EngineKind::Libblkio {
        return Err(OpenError::Engine {
            kind,
            step: "choice of the engine",
            reason: "a vhost-user socket is for engine libblkio".into(),
            source: None,
        });
    }
    match kind {
        EngineKind::Posix => Ok(Arc::new(PosixEngine::new(Arc::clone(device)))),
        #[cfg(feature = "io-uring")]
        EngineKind::IoUring => Ok(Arc::new(crate::uring::UringEngine::new(Arc::clone(
            device,
        ))?)),
        #[cfg(feature = "io-uring")]
        EngineKind::UringCmd => Ok(Arc::new(crate::uring_cmd::UringCmdEngine::new(
            Arc::clone(device),
        )?)),
        #[cfg(feature = "libblkio")]
        EngineKind::Libblkio => Ok(Arc::new(crate::blkio::LibblkioEngine::new(Arc::clone(
            device,
        ))?)),
        _ => Err(OpenError::NotInBuild { kind }),
    }
}

fn needs_block_node(device: &Device, kind: EngineKind) -> OpenError {
    let node = device.sibling();
    let node = node.map_or("the block node".into(), |node| node.display().to_string());
    OpenError::Engine {
        kind,
        step: "choice of the node",
        reason: format!(
            "{} is a character node, which only uring_cmd can use; for {kind} give {node}",
            device.path().display()
        ),
        source: None,
    }
}

/// Formats an error and its sources in one line.
pub(crate) fn reason(error: &OpenError) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        words.push_str(&format!(": {error}"));
        source = error.source();
    }
    words
}
