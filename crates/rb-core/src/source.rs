//! [`Source`]: where a store is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_io::Engine;

use crate::error::OpenError;
use crate::trace::open_failed;

/// Where a store is: on a device, in a file, or behind an engine. Converts from paths and from `Arc`s of engines.
///
/// ```
/// use std::path::Path;
/// use rb_core::Source;
///
/// let source: Source = "/dev/nvme1n1".into();
/// assert!(matches!(source, Source::Path(path) if path == Path::new("/dev/nvme1n1")));
/// ```
#[derive(Clone)]
pub enum Source {
    /// Path of a device, of a file, or of the socket of a device. Opening it claims it.
    Path(PathBuf),
    /// An engine of the caller's, for instance over a simulated device, or over a device that the caller has opened.
    Engine(Arc<dyn Engine>),
}

impl Source {
    /// The path; for an engine its name, which replaces the path in messages.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Source::Path(path) => path,
            Source::Engine(engine) => Path::new(engine.name()),
        }
    }
}

impl Source {
    /// Reports an error of its store's opening.
    pub(crate) fn reporting<T>(&self, opened: Result<T, OpenError>) -> Result<T, OpenError> {
        opened.inspect_err(|error| open_failed(self.path(), error))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Source::Engine(engine) => f.debug_tuple("Engine").field(&engine.name()).finish(),
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Source {
    fn from(path: &P) -> Source {
        Source::Path(path.as_ref().to_path_buf())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Source {
        Source::Path(path)
    }
}

impl From<String> for Source {
    fn from(path: String) -> Source {
        Source::Path(path.into())
    }
}

impl From<Arc<dyn Engine>> for Source {
    fn from(engine: Arc<dyn Engine>) -> Source {
        Source::Engine(engine)
    }
}

impl<E: Engine + 'static> From<Arc<E>> for Source {
    fn from(engine: Arc<E>) -> Source {
        Source::Engine(engine)
    }
}
