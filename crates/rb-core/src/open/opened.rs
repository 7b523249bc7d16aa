//! An opened source: its engine and the device behind it.

use std::path::PathBuf;
use std::sync::Arc;

use rb_io::{Access, Device, Engine, EngineKind, Rejected, Reservation};

use crate::clock::{Random, draw};
use crate::error::OpenError;
use crate::io::hold::Hold;
use crate::open::block_size::check_block;
use crate::open::cut;
use crate::source::Source;
use crate::trace::{self, Span};

/// A source with its engine.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) rejected: Vec<Rejected>,
    /// The former size of a file that was truncated and has just been grown back.
    pub(crate) cut_to: Option<u64>,
    /// `None` behind an engine that the caller made.
    pub(crate) device: Option<Arc<Device>>,
    pub(crate) reservation: Option<Reservation>,
}

impl Opened {
    /// Wraps engine and reservation for the open store, until it is closed.
    pub(crate) fn hold(engine: Arc<dyn Engine>, reservation: Option<Reservation>) -> Hold {
        Hold::new(engine, reservation)
    }

    /// Starts the span of the open of its store.
    pub(crate) fn span(&self) -> Span {
        trace::open(&self.path)
    }

    /// Opens a source; grows a truncated file back if it is opened for writing. `kind` chooses the
    /// engine of a path.
    pub(crate) fn new(
        source: Source,
        access: Access,
        kind: EngineKind,
    ) -> Result<Opened, OpenError> {
        let path = match source {
            Source::Path(path) if access == Access::ReadWrite => path,
            source => return Opened::as_it_is(source, access, kind),
        };
        let device = Arc::new(Device::open(&path, access)?);
        let cut_to = cut::grow_again(&path, &device)?;
        if cut_to.is_none() {
            return Opened::over(path, device, kind);
        }
        // Reopen: the checks were made before the file grew, so repeat them.
        drop(device);
        let opened = Opened::as_it_is(Source::Path(path), access, kind)?;
        Ok(Opened { cut_to, ..opened })
    }

    /// Opens a source without growing a truncated file.
    pub(crate) fn as_it_is(
        source: Source,
        access: Access,
        kind: EngineKind,
    ) -> Result<Opened, OpenError> {
        match source {
            Source::Path(path) => {
                let device = Arc::new(Device::open(&path, access)?);
                Opened::over(path, device, kind)
            }
            Source::Engine(engine) => {
                let path = PathBuf::from(engine.name());
                check_block(&path, engine.limits())?;
                Ok(Opened {
                    path,
                    engine,
                    rejected: Vec::new(),
                    cut_to: None,
                    device: None,
                    reservation: None,
                })
            }
        }
    }

    fn over(path: PathBuf, device: Arc<Device>, kind: EngineKind) -> Result<Opened, OpenError> {
        let opened = rb_io::open(Arc::clone(&device), kind)?;
        check_block(&path, opened.engine.limits())?;
        Ok(Opened {
            path,
            engine: opened.engine,
            rejected: opened.rejected,
            cut_to: None,
            device: Some(device),
            reservation: None,
        })
    }

    /// Ensures that reads reflect the device and not a stale page cache, which a writing session
    /// requires. Returns a message if that could not be ensured.
    ///
    /// # Errors
    /// Data written earlier cannot be made durable.
    pub(crate) fn distrust_cache(&self) -> Result<Option<String>, OpenError> {
        self.engine
            .distrust_cache()
            .map_err(|source| OpenError::Cache {
                path: self.path.clone(),
                source,
            })
    }

    /// Reserves the device for this host.
    ///
    /// # Errors
    /// The device cannot be reserved, or there are no random bytes for a key.
    pub(crate) fn reserve(&mut self, random: &dyn Random) -> Result<(), OpenError> {
        let Some(device) = self.device.clone() else {
            return Err(OpenError::Option {
                option: "exclusive",
                value: "Reserve".into(),
                why: "Lock, for what is no device",
            });
        };
        // Key 0 means no key.
        let key = u64::from_le_bytes(draw(random)?).max(1);
        self.reservation = Some(Reservation::new(device, key)?);
        Ok(())
    }
}
