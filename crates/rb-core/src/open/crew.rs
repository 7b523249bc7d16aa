//! Distributes pieces of work to several threads, which start with the second piece.
//!
//! A small store has one section in its base and one chunk of log, and opens without threads:
//! starting and joining a few takes longer than everything else.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::thread::{Builder, Scope};

use crossbeam::channel::{Sender, bounded};

use crate::error::Error;

/// Number of entries from which another thread pays off.
const ENTRIES_PER_WORKER: usize = 4096;

/// Most threads that load a base, replay a log or order the loaded entries.
pub(crate) fn workers() -> usize {
    // Cached: the system calls behind it take longer than opening a small store.
    static WORKERS: OnceLock<usize> = OnceLock::new();
    let count = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    *WORKERS.get_or_init(|| count().min(8))
}

/// Number of threads for ordering this many entries.
pub(crate) fn workers_for(entries: u32) -> usize {
    workers().min(1 + entries as usize / ENTRIES_PER_WORKER)
}

/// Distributes pieces to threads of a scope.
pub(crate) struct Crew<'scope, 'env, T, W> {
    scope: &'scope Scope<'scope, 'env>,
    threads: usize,
    /// Creates the function with which a thread handles each piece.
    worker: W,
    /// The first piece, until threads are started.
    held: Option<T>,
    pieces: Option<Sender<T>>,
}

impl<'scope, 'env, T, W, R> Crew<'scope, 'env, T, W>
where
    T: Send + 'scope,
    W: Fn() -> R,
    R: FnMut(T) + Send + 'scope,
{
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, threads: usize, worker: W) -> Self {
        Crew {
            scope,
            threads,
            worker,
            held: None,
            pieces: None,
        }
    }

    /// Queues a piece; blocks while as many are queued as there are threads. Without threads,
    /// handles it in place.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub(crate) fn send(&mut self, piece: T) -> Result<(), Error> {
        let pieces = match &self.pieces {
            _ if self.threads == 0 => {
                (self.worker)()(piece);
                return Ok(());
            }
            Some(pieces) => pieces,
            None => {
                let Some(first) = self.held.take() else {
                    self.held = Some(piece);
                    return Ok(());
                };
                let pieces = self.start()?;
                drop(pieces.send(first));
                self.pieces.insert(pieces)
            }
        };
        // Fails only if every thread has stopped.
        drop(pieces.send(piece));
        Ok(())
    }

    /// Handles the held piece in this thread, so that its memory is released.
    pub(crate) fn catch_up(&mut self) {
        if let Some(piece) = self.held.take() {
            (self.worker)()(piece);
        }
    }

    /// Handles the held piece; no more follow.
    pub(crate) fn end(mut self) {
        self.catch_up();
    }

    /// Starts up to `threads` threads, as many as the system allows; fails if it allows none.
    fn start(&self) -> Result<Sender<T>, Error> {
        let (pieces, inbox) = bounded(self.threads);
        for number in 0..self.threads {
            let (mut work, inbox) = ((self.worker)(), inbox.clone());
            let spawned = Builder::new()
                .name("rb-recover".into())
                .spawn_scoped(self.scope, move || inbox.into_iter().for_each(&mut work));
            if let Err(why) = spawned
                && number == 0
            {
                return Err(Error::Resource {
                    what: "a thread",
                    why: why.to_string(),
                });
            }
        }
        Ok(pieces)
    }
}
