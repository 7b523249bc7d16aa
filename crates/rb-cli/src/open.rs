//! Opens and closes stores for the commands.

use std::path::Path;

use rb_core::{EngineKind, Geometry, OnLostMetadata, OpenError, Store, StoreOptions, Superblock};

use crate::failure::Failure;
use crate::output::Output;
use crate::warnings;

/// Opens a store without warnings about what its recovery found. If the writer was killed a moment ago,
/// [`Store::open`] waits until the kernel has released its lock.
pub(crate) fn open_quietly(path: &Path, options: StoreOptions) -> Result<Store, Failure> {
    Store::open(path, options).map_err(|source| refused(path, source))
}

/// Turns the error of an opening into one that names this program's options.
pub(crate) fn refused(path: &Path, source: OpenError) -> Failure {
    match source {
        OpenError::Foreign { path, found } => Failure::Foreign { path, found },
        source => Failure::Open {
            path: path.to_path_buf(),
            source,
        },
    }
}

/// Opens a store, and warns about what its recovery found.
pub(crate) fn open(
    path: &Path,
    options: StoreOptions,
    output: &mut Output,
) -> Result<Store, Failure> {
    let store = open_quietly(path, options)?;
    warn(&store, output);
    Ok(store)
}

/// Warns about what the recovery of a store found.
pub(crate) fn warn(store: &Store, output: &mut Output) {
    for warning in warnings::of(store.recovery()) {
        output.warn(warning);
    }
}

/// Returns the options for opening a store for writing.
pub(crate) fn writing(engine: EngineKind) -> StoreOptions {
    StoreOptions {
        engine,
        // An operator sees what the headers of the slots show, with a warning, and agrees before it is made final.
        on_lost_metadata: OnLostMetadata::Scan,
        ..StoreOptions::default()
    }
}

/// Returns the buffer memory for a value of `len` bytes; `None` if the default is enough.
pub(crate) fn buffers_for(geometry: &Geometry, len: usize) -> Option<usize> {
    // Every slot has a header of 4096 bytes.
    let with_headers = |len: usize| len + len / 256 + (1 << 20);
    let least = 2 * with_headers(geometry.largest_value() as usize);
    (len > 32 << 20).then(|| least.max(with_headers(len)))
}

/// Opens a store read-only. It may be in use by another process.
pub(crate) fn open_reading(
    path: &Path,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Store, Failure> {
    let options = StoreOptions {
        read_only: true,
        ..writing(engine)
    };
    open(path, options, output)
}

/// The user's consent.
#[derive(Clone, Copy)]
pub(crate) struct Agreed {
    pub(crate) accept_lost_metadata: bool,
    pub(crate) force: bool,
}

/// Opens a store read-only before it is opened for writing, and returns its superblock.
///
/// Opening for writing makes a loss of metadata final: the content that the slots' headers show is written
/// as the store's content. So a store that lost metadata is refused until the user accepts that.
pub(crate) fn look_before_writing(
    path: &Path,
    engine: EngineKind,
    agreed: Agreed,
    output: &mut Output,
) -> Result<Superblock, Failure> {
    let options = StoreOptions {
        read_only: true,
        ..writing(engine)
    };
    let store = open_quietly(path, options)?;
    let found = &store.recovery().foreign;
    if !found.is_empty() && !agreed.force {
        let (path, found) = (path.to_path_buf(), found.clone());
        return Err(Failure::Foreign { path, found });
    }
    warn(&store, output);
    let lost = store.recovery().lost_metadata.clone();
    let superblock = store.superblock().clone();
    close(&store)?;
    match lost {
        Some(why) if !agreed.accept_lost_metadata => Err(Failure::LostMetadata {
            path: path.to_path_buf(),
            why,
        }),
        _ => Ok(superblock),
    }
}

/// Closes a store.
pub(crate) fn close(store: &Store) -> Result<(), Failure> {
    store.close().map_err(|source| Failure::Store {
        what: "closing the store",
        source,
    })
}

/// Closes a store after its use, also if that failed: without a close the store would look crashed.
pub(crate) fn close_after<T>(store: &Store, used: Result<T, Failure>) -> Result<T, Failure> {
    let closed = close(store);
    let used = used?;
    closed.map(|()| used)
}
