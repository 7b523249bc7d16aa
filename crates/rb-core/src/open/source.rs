//! What a store is opened over: a path with its device, or an engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_io::{Access, Device, Engine, EngineKind, Rejected, Reservation};

use crate::clock::Random;
use crate::error::OpenError;
use crate::open::cut;

/// What an engine was opened over.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) rejected: Vec<Rejected>,
    /// The size of a file that was cut and has just been grown again.
    pub(crate) cut_to: Option<u64>,
    /// None behind a simulated device's engine.
    pub(crate) device: Option<Arc<Device>>,
    pub(crate) reservation: Option<Reservation>,
}

impl Source {
    /// A device that is held.
    pub(crate) fn of_device(
        path: &Path,
        device: Arc<Device>,
        engine: EngineKind,
    ) -> Result<Source, OpenError> {
        let opened = rb_io::open(Arc::clone(&device), engine)?;
        Ok(Source {
            path: path.to_path_buf(),
            engine: opened.engine,
            rejected: opened.rejected,
            cut_to: None,
            device: Some(device),
            reservation: None,
        })
    }

    /// What a simulated device's engine reaches.
    pub(crate) fn of_engine(engine: Arc<dyn Engine>) -> Source {
        Source {
            path: PathBuf::from(engine.name()),
            engine,
            rejected: Vec::new(),
            cut_to: None,
            device: None,
            reservation: None,
        }
    }
}

/// Opens the device at `path`, and grows a file that was cut if it is opened for writing.
pub(crate) fn open_path(
    path: &Path,
    access: Access,
    engine: EngineKind,
) -> Result<Source, OpenError> {
    let mut device = Arc::new(Device::open(path, access)?);
    let mut cut_to = None;
    if access == Access::ReadWrite {
        cut_to = cut::grow_again(path, &device)?;
        if cut_to.is_some() {
            // It was judged and grown while it was held. Whatever happens now, the opening judges it again.
            drop(device);
            device = Arc::new(Device::open(path, access)?);
        }
    }
    let source = Source::of_device(path, device, engine)?;
    Ok(Source { cut_to, ..source })
}

impl Source {
    /// Reserves the device for this host.
    ///
    /// # Errors
    /// It cannot be reserved, or there are no random bytes for a key.
    pub(crate) fn reserve(&mut self, random: &dyn Random) -> Result<(), OpenError> {
        let Some(device) = self.device.clone() else {
            return Err(OpenError::Option {
                option: "exclusive",
                value: "Reserve".into(),
                why: "Lock, for what is no device",
            });
        };
        let mut key = [0; 8];
        random.fill(&mut key).map_err(|why| OpenError::Resource {
            what: "random bytes",
            why: why.to_string(),
        })?;
        // 0 stands for no key.
        let key = u64::from_le_bytes(key).max(1);
        self.reservation = Some(Reservation::new(device, key)?);
        Ok(())
    }
}
