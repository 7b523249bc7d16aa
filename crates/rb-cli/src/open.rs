//! How commands open and close stores.

use std::path::Path;
use std::time::{Duration, Instant};

use rb_core::{EngineKind, OpenError, Store, StoreOptions};

use crate::failure::Failure;

/// How long a device that is in use is tried again. The kernel takes the rings of a killed process
/// apart after the process is gone, and they hold its lock until then: for about 0.1 s.
const IN_USE_WAIT: Duration = Duration::from_secs(1);
const IN_USE_STEP: Duration = Duration::from_millis(5);

/// Opens a store. One whose writer was killed just now is waited for; one with a living writer is an
/// error all the same, a little later.
pub(crate) fn open(path: &Path, options: StoreOptions) -> Result<Store, Failure> {
    open_waiting(path, options).map(|(store, _)| store)
}

/// As [`open`]; says besides how long the device was in use before the opening that succeeded began.
pub(crate) fn open_waiting(
    path: &Path,
    options: StoreOptions,
) -> Result<(Store, Duration), Failure> {
    let start = Instant::now();
    loop {
        let waited = start.elapsed();
        match Store::open(path, options.clone()) {
            Ok(store) => return Ok((store, waited)),
            Err(OpenError::Device(error)) if error.is_in_use() && waited < IN_USE_WAIT => {
                std::thread::sleep(IN_USE_STEP);
            }
            Err(source) => {
                let path = path.to_path_buf();
                return Err(Failure::Open { path, source });
            }
        }
    }
}

/// The options of a store that is opened for writing.
pub(crate) fn writing(engine: EngineKind) -> StoreOptions {
    StoreOptions {
        engine,
        ..StoreOptions::default()
    }
}

/// Opens a store for reading and writing.
pub(crate) fn open_writing(path: &Path, engine: EngineKind) -> Result<Store, Failure> {
    open(path, writing(engine))
}

/// Opens a store without ever writing to it. It may be in use by another process.
pub(crate) fn open_reading(path: &Path, engine: EngineKind) -> Result<Store, Failure> {
    open(
        path,
        StoreOptions {
            engine,
            read_only: true,
            ..StoreOptions::default()
        },
    )
}

/// Closes a store properly.
pub(crate) fn close(store: &Store) -> Result<(), Failure> {
    store.close().map_err(|source| Failure::Store {
        what: "closing the store",
        source,
    })
}
