//! What a store lies on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rb_io::Engine;

/// What a store lies on: a device or file, or what an engine reaches.
///
/// Made from a path, or from an engine in an `Arc`.
#[derive(Clone)]
pub enum Source {
    /// The path of a device, of a file, or of the socket of a device. Opening it claims it.
    Path(PathBuf),
    /// An engine that the caller made: over a simulated device, or over one that the caller holds.
    Engine(Arc<dyn Engine>),
}

impl Source {
    /// The path; the name of an engine stands in for it in messages.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Source::Path(path) => path,
            Source::Engine(engine) => Path::new(engine.name()),
        }
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
