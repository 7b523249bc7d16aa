//! The process that something belongs to.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::sys::process::mark;

/// The process that made this. A forked child has a copy of the parent's memory, but neither its threads nor locks that
/// they would give back, and shares queues, files and locks with it: there, what belongs to the parent is not to be used.
///
/// Costs two loads to compare; a `getpid` where the kernel has no memory that a fork clears (Linux before 4.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    id: u32,
    /// 0 in the first process.
    generation: u32,
}

impl Process {
    /// The process that runs.
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

    /// Its number in the system.
    #[must_use]
    pub fn id(self) -> u32 {
        self.id
    }

    /// Whether this is the process that runs. False in a forked child.
    #[must_use]
    pub fn is_current(self) -> bool {
        self == Process::current()
    }
}

/// The process as the mark has it, which is set in the first call of each process: its number in the system, which
/// is never 0, and above that how many of the processes whose memory it inherited had set theirs. The system uses its
/// numbers again, those do not repeat.
fn of_mark(mark: &AtomicU64) -> Process {
    static GENERATION: AtomicU32 = AtomicU32::new(0);
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
