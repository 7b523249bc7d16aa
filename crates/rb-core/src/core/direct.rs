//! Direct I/O: which values go straight between the device and the caller's memory.
//!
//! Memory that the device refuses (EFAULT, EOPNOTSUPP: memory of an accelerator, for example) is
//! copied instead, once for each operation that finds out. After [`REFUSALS_MAX`] of them all of its
//! arena is copied.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rb_io::{ArenaId, IoError, Loan};

use crate::error::error_chain;

/// Refusals after which an arena is not used directly any more.
const REFUSALS_MAX: u32 = 3;

/// The state of direct I/O.
#[derive(Debug)]
pub(crate) struct Direct {
    /// Alignment in bytes of memory that the engine transfers.
    align: usize,
    /// Shorter values are put by a copy.
    put_min: usize,
    /// True if an arena was refused.
    any_refused: AtomicBool,
    /// True if an arena is copied from now on, and that was not reported.
    news: AtomicBool,
    refused: Mutex<BTreeMap<ArenaId, Refused>>,
    /// Operations that were repeated by a copy.
    pub(crate) refusals: AtomicU64,
}

#[derive(Debug, Default)]
struct Refused {
    times: u32,
    /// The latest reason.
    why: String,
}

impl Direct {
    pub(crate) fn new(align: u32, put_min: usize) -> Direct {
        Direct {
            align: align as usize,
            put_min,
            any_refused: AtomicBool::new(false),
            news: AtomicBool::new(false),
            refused: Mutex::default(),
            refusals: AtomicU64::new(0),
        }
    }

    /// Returns whether a read goes straight to this memory.
    pub(crate) fn reads_into(&self, loan: &Loan) -> bool {
        loan.arena_offset().is_multiple_of(self.align) && !self.is_off(loan.arena().id())
    }

    /// Returns whether a write takes its bytes straight from this memory.
    pub(crate) fn writes_from(&self, loan: &Loan) -> bool {
        loan.len() >= self.put_min && self.reads_into(loan)
    }

    /// Counts an operation that the device refused for its memory.
    pub(crate) fn refused(&self, arena: ArenaId, error: &IoError) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
        let mut refused = self.refused.lock();
        let refused = refused.entry(arena).or_default();
        refused.times = refused.times.saturating_add(1);
        refused.why = error_chain(error);
        if refused.times == REFUSALS_MAX {
            self.news.store(true, Ordering::Relaxed);
        }
        self.any_refused.store(true, Ordering::Relaxed);
    }

    /// The reason why memory is copied that could be used directly, if any is.
    pub(crate) fn off(&self) -> Option<String> {
        let refused = self.refused.lock();
        let off = refused.iter().find(|(_, arena)| arena.is_off())?;
        Some(format!("arena {}: {}", off.0.0, off.1.why))
    }

    /// Returns the reason of [`Direct::off`] once for each arena that is copied from now on.
    pub(crate) fn newly_off(&self) -> Option<String> {
        let news = self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::Relaxed);
        news.then(|| self.off())?
    }

    fn is_off(&self, arena: ArenaId) -> bool {
        self.any_refused.load(Ordering::Relaxed)
            && self.refused.lock().get(&arena).is_some_and(Refused::is_off)
    }
}

impl Refused {
    fn is_off(&self) -> bool {
        self.times >= REFUSALS_MAX
    }
}
