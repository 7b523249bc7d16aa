//! Step 1 of a get: leases the hits, with one lock hold per touched shard.

use std::sync::Arc;

use rb_index::{Hints, LockPurpose, Purpose};
use rb_io::Loan;

use crate::core::expiry::Expiry;
use crate::core::inner::Inner;
use crate::core::pieces::slots_of;
use crate::counters::add;
use crate::ops::get_batch::GetBatch;
use crate::ops::get_hit::{PendingGet, Read, Target};
use crate::ops::groups::by_shard;
use crate::ops::judging::Judging;
use crate::simulator::SwitchPoint;

/// Step 1 of a get into the caller's memory, one loan per key.
pub(crate) fn lease_at(
    inner: &Arc<Inner>,
    keys: &[&[u8]],
    hints: Hints,
    loans: Vec<Loan>,
) -> GetBatch {
    let mut loans: Vec<Option<Loan>> = loans.into_iter().map(Some).collect();
    lease(inner, keys, hints, move |at| {
        let loan = loans[at].take().expect("each key is looked up once");
        Target::memory(inner, loan)
    })
}

/// Step 1: leases the hits. Keys without a result in the batch are misses.
pub(crate) fn lease(
    inner: &Arc<Inner>,
    keys: &[&[u8]],
    hints: Hints,
    mut target: impl FnMut(usize) -> Target,
) -> GetBatch {
    let batch = inner.index.begin_batch(keys.len()).with_hints(hints);
    let mut answers = Vec::new();
    let hashes: Vec<u64> = keys.iter().map(|key| inner.hash(key)).collect();
    inner.prefetch(&hashes);
    let mut hits: Vec<PendingGet> = Vec::with_capacity(keys.len());
    let mut judging = Judging::new(inner, &hashes);
    let mut misses = 0;
    let mut expiry = Expiry::new(inner);
    // Their loans end below, with no lock held: that calls `Arena::when_free`'s callbacks.
    let mut unused = Vec::new();
    for group in by_shard(keys.len(), |at| inner.index.shard_of(hashes[at])) {
        let mut shard = inner.index.lock(group.shard, LockPurpose::Operation);
        for at in group.positions {
            if let Err(error) = inner.check_key(keys[at]) {
                answers.push((at, Err(error)));
                continue;
            }
            expiry.apply(&mut shard, hashes[at], keys[at]);
            let Some(lease) = shard.lease(hashes[at], keys[at], batch.at(at)) else {
                misses += 1;
                continue;
            };
            judging.found(at, lease.note());
            let target = target(at);
            if let Err(error) = target.check(lease.located().payload_len as usize) {
                shard.release(lease);
                unused.push(target);
                answers.push((at, Err(error)));
                continue;
            }
            hits.push(PendingGet {
                at,
                shard: group.shard,
                key: keys[at].into(),
                metadata: shard.metadata(&lease).into(),
                whole: !lease.located().verified,
                target,
                read: Read::Open,
                refuted: false,
                slots: slots_of(lease.located(), shard.more_slots(&lease)),
                lease,
            });
        }
    }
    let notes = judging.judge(inner, batch, Purpose::Lease);
    for hit in &mut hits {
        hit.lease.set_note(notes.of(hit.at));
    }
    add(&inner.counters.misses, misses);
    drop(unused);
    expiry.notify();
    inner.switch(SwitchPoint::Leased);
    GetBatch::new(inner, hits, answers)
}
