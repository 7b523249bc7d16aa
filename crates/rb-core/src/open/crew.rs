//! Pieces of work for several threads, which start with the second piece.
//!
//! A small store has one section in its base and one piece of log. It opens without threads: to start and join some
//! takes longer than all the rest.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::thread::{Builder, Scope};

use crossbeam::channel::{Sender, bounded};

use crate::error::Error;

/// Entries for which another thread pays off.
const ENTRIES_PER_WORKER: usize = 4096;

/// Threads that load a base, replay a log and order what was loaded, at most.
pub(crate) fn workers() -> usize {
    // Asking takes system calls for longer than a small store takes to open.
    static WORKERS: OnceLock<usize> = OnceLock::new();
    let count = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    *WORKERS.get_or_init(|| count().min(8))
}

/// Threads that order so many entries.
pub(crate) fn workers_for(entries: u32) -> usize {
    workers().min(1 + entries as usize / ENTRIES_PER_WORKER)
}

/// Hands pieces to threads of a scope.
pub(crate) struct Crew<'scope, 'env, T, W> {
    scope: &'scope Scope<'scope, 'env>,
    threads: usize,
    /// Makes what a thread does with each piece.
    worker: W,
    /// The first piece, while there are no threads.
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

    /// Hands a piece out; waits while as many are waiting as there are threads. With no threads, does it here.
    ///
    /// # Errors
    /// The system has no thread.
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
        // Sending fails only when every thread has stopped.
        drop(pieces.send(piece));
        Ok(())
    }

    /// Does here what no thread was started for, so that its memory comes back.
    pub(crate) fn catch_up(&mut self) {
        if let Some(piece) = self.held.take() {
            (self.worker)()(piece);
        }
    }

    /// There are no more pieces.
    pub(crate) fn end(mut self) {
        self.catch_up();
    }

    /// Starts as many threads as there should be, or as there are to be had: at least one.
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
