//! Probes a path: each engine (usable, or why not), every limit with its source, and advice.
//!
//! It opens the path read-only and without a claim, and then uses it as a store would. Only a
//! server behind a socket notices, because it may accept only one client.

mod advice;
mod found;

pub use found::{EngineOffer, EngineProbe, Probe};

use std::io;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::fs::Access as Right;

use crate::device::{Access, Device};
use crate::engine::{Engine, Issuer, QueueOptions};
use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::limits::Limits;
use crate::open::{candidates, open_one, reason};

/// Arena size registered by a probed queue; the default of a store.
const ARENA_BYTES: usize = 64 << 20;
/// Depth of a probed queue; the default of a store.
const DEPTH: u32 = 256;

/// Time limit for the whole probe. Opening a device reads from it, and the thread that issued a
/// hanging read cannot cancel it.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Probes a file, device node or socket, for at most five seconds. Writes nothing and claims
/// nothing.
///
/// # Errors
/// Those of [`Device::open`] for reading, and [`OpenError::Path`] if the device does not respond in
/// time: a separate thread then keeps waiting for it. An unusable engine is not an error.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("device");
/// rb_io::Device::create_file(&path, 1 << 20, false)?;
/// let probe = rb_io::probe(&path)?;
/// assert!(probe.engines.iter().any(|offer| offer.kind == rb_io::EngineKind::Posix));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn probe(path: &Path) -> Result<Probe, OpenError> {
    probe_within(path, ANSWER_MAX)
}

pub(crate) fn probe_within(path: &Path, time: Duration) -> Result<Probe, OpenError> {
    let (sender, answer) = mpsc::channel();
    let asked = path.to_path_buf();
    let thread = std::thread::Builder::new().name("rb-probe".into());
    let failed = |source| OpenError::Path {
        path: path.into(),
        step: "probe",
        source,
    };
    // The receiver may have timed out and gone.
    let asking = thread.spawn(move || drop(sender.send(look(&asked))));
    drop(asking.map_err(failed)?);
    answer.recv_timeout(time).map_err(|_| {
        let words = format!("no answer from the device within {time:?}");
        failed(io::Error::new(io::ErrorKind::TimedOut, words))
    })?
}

fn look(path: &Path) -> Result<Probe, OpenError> {
    let device = Arc::new(Device::open(path, Access::ReadOnly)?);
    let mut engines: Vec<_> = EngineKind::ALL
        .into_iter()
        .filter(|kind| *kind != EngineKind::Auto)
        .map(|kind| EngineProbe {
            kind,
            auto: false,
            outcome: offer(&device, kind).map_err(|why| why_not(kind, &why)),
        })
        .collect();
    let usable = |engines: &[EngineProbe], kind| {
        let named = |engine: &EngineProbe| engine.kind == kind && engine.outcome.is_ok();
        engines.iter().position(named)
    };
    let wanted = candidates(device.kind());
    if let Some(chosen) = wanted.iter().find_map(|kind| usable(&engines, *kind)) {
        engines[chosen].auto = true;
    }
    let mut probe = Probe {
        path: path.into(),
        kind: device.kind(),
        capacity_bytes: device.capacity_bytes(),
        writable: rustix::fs::access(path, Right::WRITE_OK).is_ok(),
        direct: device.direct(),
        features: device.report().to_vec(),
        engines,
        advice: Vec::new(),
    };
    probe.advice = advice::advice(&probe);
    Ok(probe)
}

/// Formats the error without the name of the engine, which is printed next to it.
fn why_not(kind: EngineKind, error: &OpenError) -> String {
    let words = reason(error);
    let beside = format!("engine {kind}: ");
    words.strip_prefix(&beside).unwrap_or(&words).to_owned()
}

fn offer(device: &Arc<Device>, kind: EngineKind) -> Result<EngineOffer, OpenError> {
    let engine: Arc<dyn Engine> = open_one(device, kind)?;
    let arena = engine.arena(ARENA_BYTES);
    // The best kernel features require a queue of one thread. This queue is never used.
    let queue = engine.queue(&QueueOptions {
        depth: DEPTH,
        arenas: arena.into_iter().collect(),
        issuer: Issuer::OneThread,
        inline: false,
        linger: Duration::ZERO,
    })?;
    let discards = engine.discards();
    let discard = discards.as_ref().unwrap_or(&engine).limits().discard;
    Ok(EngineOffer {
        limits: Limits {
            discard,
            ..*engine.limits()
        },
        features: queue.report(),
    })
}
