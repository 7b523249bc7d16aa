//! Records what the threads of a session did and saw, in one order.
//!
//! An operation is recorded before it begins and when it has ended, an eviction before the slot is written again. A
//! record is written in one piece: into memory, or as one write of at most a pipe's atomic size. So the records are in
//! the order in which they were made, over all threads, and a kill leaves only whole records.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::event::{Event, HEAD, KIND_CLOSE, KIND_DROP, split};

/// Destination of records.
#[derive(Debug)]
enum Sink {
    Memory(Mutex<Vec<u8>>),
    Pipe(File),
}

/// The journal of one session.
#[derive(Debug)]
pub(super) struct Journal {
    sink: Sink,
    /// True if a violation was recorded.
    wrong: AtomicBool,
}

impl Journal {
    pub(super) fn in_memory() -> Journal {
        Journal {
            sink: Sink::Memory(Mutex::default()),
            wrong: AtomicBool::new(false),
        }
    }

    /// Writes to standard output, bypassing the buffer of the standard library, which would split records.
    pub(super) fn on_stdout() -> std::io::Result<Journal> {
        let pipe = std::io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Journal {
            sink: Sink::Pipe(pipe.into()),
            wrong: AtomicBool::new(false),
        })
    }

    pub(super) fn record(&self, event: &Event) {
        if matches!(event, Event::Violation(_)) {
            self.wrong.store(true, Ordering::Relaxed);
        }
        let bytes = event.encode();
        match &self.sink {
            Sink::Memory(memory) => memory
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&bytes),
            Sink::Pipe(pipe) => {
                let mut pipe: &File = pipe;
                if pipe.write_all(&bytes).is_err() {
                    // The parent is gone.
                    std::process::exit(0);
                }
            }
        }
    }

    pub(super) fn violation(&self, what: String) {
        self.record(&Event::Violation(what));
    }

    /// Returns whether a violation was recorded: then the session ends.
    pub(super) fn is_wrong(&self) -> bool {
        self.wrong.load(Ordering::Relaxed)
    }

    /// Returns the records in memory so far.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match &self.sink {
            Sink::Memory(memory) => memory
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            Sink::Pipe(_) => Vec::new(),
        }
    }
}

/// Scans a journal that is still growing.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    /// Offset of the first record that was not scanned.
    at: usize,
}

impl Reader {
    /// Takes more of the journal. Returns whether a drop or close begins in it.
    pub(super) fn take(&mut self, more: &[u8]) -> bool {
        self.bytes.extend_from_slice(more);
        let mut is_ending = false;
        while let Some((kind, body, _)) = split(&self.bytes[self.at..]) {
            is_ending |= kind == KIND_DROP || kind == KIND_CLOSE;
            self.at += HEAD + body.len();
        }
        is_ending
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
