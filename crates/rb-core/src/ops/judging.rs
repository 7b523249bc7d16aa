//! Passes a looked up batch to the eviction policy as a whole: what it knows of one key says something of the others.

use rb_index::{Batch, Judged, Note, Purpose};

use crate::core::inner::Inner;

/// The keys of a batch while they are looked up. Costs nothing with a policy that judges no batches.
pub(crate) struct Judging {
    /// Empty with such a policy.
    keys: Vec<Judged>,
}

impl Judging {
    /// A batch of which no key was found yet.
    pub(crate) fn new(inner: &Inner, hashes: &[u64]) -> Judging {
        let missing = |&hash: &u64| Judged {
            hash,
            found: false,
            note: Note::default(),
        };
        Judging {
            keys: match inner.index.judges() {
                true => hashes.iter().map(missing).collect(),
                false => Vec::new(),
            },
        }
    }

    /// Takes what the shard's policy knows of a key that it has found.
    pub(crate) fn found(&mut self, at: usize, note: Note) {
        if let Some(key) = self.keys.get_mut(at) {
            (key.found, key.note) = (true, note);
        }
    }

    /// Lets the policy judge the batch. The caller holds no lock.
    pub(crate) fn judge(mut self, inner: &Inner, batch: Batch, purpose: Purpose) -> Notes {
        if !self.keys.is_empty() {
            inner.index.judge(batch, purpose, &mut self.keys);
        }
        Notes(self.keys)
    }
}

/// The verdicts on a batch; none on a batch that was not looked up.
#[derive(Default)]
pub(crate) struct Notes(Vec<Judged>);

impl Notes {
    /// Returns the note for the lease of a key.
    pub(crate) fn of(&self, at: usize) -> Note {
        self.0.get(at).map_or(Note::default(), |key| key.note)
    }
}
