//! Admission of puts by the eviction policy: it refuses values that are worth less than what they would replace.
//!
//! A refused put is as one whose value is gone again at that moment (`refused.rs`). So only keys without an entry are
//! refused: a put that replaces a value is always written, or the former value would stay.
//!
//! A batch is the chain of a request's blocks, and a block is worth nothing without those before it. So the first
//! refusal ends the batch, over all its parts.

use rb_index::PutMode;

use crate::core::inner::Inner;
use crate::ops::locking::have_entries;
use crate::ops::put_plan::PlannedPut;

/// The admission of a part of a batch.
pub(crate) struct Admission<'a> {
    inner: &'a Inner,
    wanted: &'a [PlannedPut<'a>],
    /// For each put, true if its key is known to have no entry and to have had none when the batch began, so that it may be
    /// refused.
    fresh: Vec<bool>,
    /// The position in the batch from which on fresh keys are refused.
    end: usize,
}

impl<'a> Admission<'a> {
    /// `needy` are the puts that need slots, grouped by shard. From the position `end` in the batch on, keys without entries
    /// are refused.
    pub(crate) fn new(
        inner: &'a Inner,
        wanted: &'a [PlannedPut<'a>],
        needy: &[usize],
        mode: PutMode,
        end: usize,
    ) -> Admission<'a> {
        let mut fresh = match mode {
            _ if !inner.index.judges() => vec![false; wanted.len()],
            // `needy` has no key with an entry.
            PutMode::KeepExisting => vec![true; wanted.len()],
            PutMode::Replace if end < usize::MAX || evicts(inner, wanted, needy) => {
                have_entries(inner, wanted).iter().map(|has| !has).collect()
            }
            // There are free slots for all. If other puts take them first, some entry is evicted for these
            // unjudged, because nothing is known of their keys.
            PutMode::Replace => vec![false; wanted.len()],
        };
        for (fresh, put) in fresh.iter_mut().zip(wanted) {
            *fresh &= !put.had_entry;
        }
        Admission {
            inner,
            wanted,
            fresh,
            end,
        }
    }

    /// The hash of a key for the policy; `None` if it is admitted in any case.
    pub(crate) fn hash(&self, at: usize) -> Option<u64> {
        self.fresh[at].then(|| self.wanted[at].hash)
    }

    /// Notes that the policy has refused a key.
    pub(crate) fn refused(&mut self, at: usize) {
        self.end = self.end.min(self.wanted[at].at);
    }

    /// Returns whether the put follows a refused one, and is refused for that.
    pub(crate) fn follows_refusal(&self, at: usize) -> bool {
        self.fresh[at] && self.wanted[at].at >= self.end
    }

    /// Sorts puts into the order in which they take slots: first those of keys with entries, class by class, then the
    /// others in the order of the batch, so that the first refusal comes before what it ends. If slots run out the last
    /// keys fail, and neighbours in the batch become neighbours on the device.
    pub(crate) fn sort(&self, needy: &mut [usize]) {
        needy.sort_unstable_by_key(|&at| {
            let put = &self.wanted[at];
            let apart = (!self.fresh[at]).then_some((put.class, put.slots > 1));
            (self.fresh[at], apart, put.at)
        });
    }

    /// Returns whether a put of several slots is admitted.
    pub(crate) fn admits(&mut self, at: usize) -> bool {
        let (put, index) = (&self.wanted[at], &self.inner.index);
        if !self.fresh[at] {
            return true;
        }
        let admitted = index.free(put.class) >= put.slots as u64
            || index.is_worth_evicting(put.class, put.hash);
        if !admitted {
            self.refused(at);
        }
        admitted
    }
}

/// Returns whether these puts need more slots of a class than are free.
fn evicts(inner: &Inner, wanted: &[PlannedPut<'_>], needy: &[usize]) -> bool {
    (0..inner.geometry.classes() as u8).any(|class| {
        let of_class = needy.iter().filter(|&&at| wanted[at].class == class);
        let needed: usize = of_class.map(|&at| wanted[at].slots).sum();
        needed > 0 && needed as u64 > inner.index.free(class)
    })
}
