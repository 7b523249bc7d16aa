//! Identifies the process that created a resource.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sys::process::mark;

/// The process that created a resource. A forked child has a copy of the parent's memory, but not
/// its threads, and may inherit locks that no thread will release. It shares queues, files and
/// locks with the parent and must not use them.
///
/// Comparing costs two loads, or a `getpid` if the kernel cannot clear memory on fork (Linux before
/// 4.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    id: u32,
    /// 0 in the first process.
    generation: u32,
}

impl Process {
    /// Returns the current process.
    #[must_use]
    pub fn current() -> Process {
        match mark() {
            Some(mark) => of_mark(mark),
            None => Process {
                id: std::process::id(),
                generation: 0,
            },
        }
    }

    /// Returns the process id.
    #[must_use]
    pub fn id(self) -> u32 {
        self.id
    }

    /// Returns whether this is the current process. False in a forked child.
    #[must_use]
    pub fn is_current(self) -> bool {
        self == Process::current()
    }
}

/// Returns the process according to the mark, which the first call in each process sets: the
/// process id, which is never 0, in the low bits, and above it the number of ancestors that had set
/// theirs. The system reuses process ids; these values do not repeat.
fn of_mark(mark: &AtomicU64) -> Process {
    static GENERATION: AtomicU32 = AtomicU32::new(0);
    // Relaxed: only the number counts, it publishes nothing else.
    let mut set = mark.load(Ordering::Relaxed);
    if set == 0 {
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        let new = u64::from(generation) << 32 | u64::from(std::process::id());
        let changed = mark.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed);
        set = changed.map_or_else(|other| other, |_| new);
    }
    Process {
        id: set as u32,
        generation: (set >> 32) as u32,
    }
}
