//! The record that a refused put leaves: its key has no value.
//!
//! Evictions leave no record. So without this one a former value of the key could return after a crash, although a put has
//! replaced it since: the value of a put that was admitted and then evicted leaves a record, too (C3). A key of which
//! nothing can return gets none: most refused keys are new, and with small strict batches each record costs a commit.

use rb_format::{Generation, Record};
use rb_index::ShardGuard;

use crate::core::expiry::Expiry;
use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::error::Error;
use crate::ops::put_plan::PlannedPut;
use crate::simulator::Change;

/// A refused put without a result.
pub(crate) struct RefusedPut {
    pub(crate) at: usize,
    hash: u64,
    key: Box<[u8]>,
    payload_len: usize,
    by_budget: bool,
}

/// The end of a refused put.
pub(crate) enum Trace {
    /// Records queued earlier say what the key has, a newer value or none. They are durable with this ticket.
    Recorded(u64),
    /// The key has no value from this generation on, which needs a record.
    Unrecorded(Generation),
}

impl RefusedPut {
    pub(crate) fn new(put: PlannedPut<'_>) -> RefusedPut {
        RefusedPut {
            at: put.at,
            hash: put.hash,
            key: put.key.into(),
            payload_len: put.refused.unwrap_or(put.payload.len()),
            by_budget: put.refused.is_some(),
        }
    }

    /// Counts the put as refused, which is its result.
    pub(crate) fn count(&self, inner: &Inner) {
        let counters = &inner.counters;
        match self.by_budget {
            true => counters.refused_by_budget.add(self.payload_len),
            false => counters.refused_by_policy.add(self.payload_len),
        }
    }

    /// Ends the put under the lock of its shard, in which its record is queued.
    pub(crate) fn end(
        &self,
        inner: &Inner,
        writer: &Writer,
        shard: &mut ShardGuard<'_>,
        expiry: &mut Expiry<'_>,
    ) -> Result<Trace, Error> {
        let (hash, key) = (self.hash, &self.key);
        expiry.apply(shard, hash, key);
        if shard.get(hash, key).is_some() {
            return Ok(Trace::Recorded(shard.ticket_of(hash, key)));
        }
        let generation = writer.next_generation()?;
        inner.changed(&Change::Removed {
            key,
            generation: generation.0,
        });
        // A put of the key that is under way is superseded, as by a remove.
        let removed = shard.remove(hash, key, generation.0);
        assert!(removed.is_none(), "the key has no entry under this lock");
        Ok(match shard.may_return(hash) {
            true => Trace::Unrecorded(generation),
            // A remove of the key may have been the last change.
            false => Trace::Recorded(shard.last_ticket()),
        })
    }

    pub(crate) fn record(&self, generation: Generation) -> Record<'_> {
        Record::Remove {
            key: &self.key,
            generation,
        }
    }
}
