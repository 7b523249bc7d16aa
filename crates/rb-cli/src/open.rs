//! How commands open and close stores.

use std::path::Path;

use rb_core::{EngineKind, OpenError, Store, StoreOptions, Superblock};

use crate::failure::Failure;
use crate::output::Output;
use crate::warnings;

/// Opens a store and says nothing about what its recovery found. One whose writer was killed just
/// now is waited for below us: the kernel lets go of its lock a moment later.
pub(crate) fn open_quietly(path: &Path, options: StoreOptions) -> Result<Store, Failure> {
    Store::open(path, options).map_err(|source| refused(path, source))
}

/// An opening that failed, in words that speak of this program's options.
pub(crate) fn refused(path: &Path, source: OpenError) -> Failure {
    match source {
        OpenError::Foreign { path, found } => Failure::Foreign { path, found },
        source => Failure::Open {
            path: path.to_path_buf(),
            source,
        },
    }
}

/// Opens a store, and warns of what its recovery found.
pub(crate) fn open(
    path: &Path,
    options: StoreOptions,
    output: &mut Output,
) -> Result<Store, Failure> {
    let store = open_quietly(path, options)?;
    warn(&store, output);
    Ok(store)
}

/// Warns of what the recovery of a store found.
pub(crate) fn warn(store: &Store, output: &mut Output) {
    for warning in warnings::of(store.recovery()) {
        output.warn(warning);
    }
}

/// The options of a store that is opened for writing.
pub(crate) fn writing(engine: EngineKind) -> StoreOptions {
    StoreOptions {
        engine,
        ..StoreOptions::default()
    }
}

/// Opens a store without ever writing to it. It may be in use by another process.
pub(crate) fn open_reading(
    path: &Path,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Store, Failure> {
    let options = StoreOptions {
        engine,
        read_only: true,
        ..StoreOptions::default()
    };
    open(path, options, output)
}

/// What the user agreed to.
#[derive(Clone, Copy)]
pub(crate) struct Agreed {
    pub(crate) accept_lost_metadata: bool,
    pub(crate) force: bool,
}

/// Looks at a store that is to be written to, without writing to it, and answers what it is.
///
/// Opening for writing makes a loss of metadata final: what the slots' headers prove is written down
/// as the store's content. So a store that lost it is refused until its owner accepts that.
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

/// Closes a store properly.
pub(crate) fn close(store: &Store) -> Result<(), Failure> {
    store.close().map_err(|source| Failure::Store {
        what: "closing the store",
        source,
    })
}

/// Closes a store whatever its use came to: after an error that is not the store's own it would else look as if it had crashed.
pub(crate) fn close_after<T>(store: &Store, used: Result<T, Failure>) -> Result<T, Failure> {
    let closed = close(store);
    let used = used?;
    closed.map(|()| used)
}
