//! Visits puts under the locks of their shards.

use rb_index::{LockPurpose, ShardGuard};

use crate::core::expiry::Expiry;
use crate::core::inner::Inner;
use crate::ops::put_plan::PlannedPut;

/// Visits these positions, which must be grouped by shard, with one lock hold per shard.
pub(crate) fn each_locked(
    inner: &Inner,
    wanted: &[PlannedPut<'_>],
    positions: &[usize],
    mut visit: impl FnMut(&mut ShardGuard<'_>, usize),
) {
    for group in positions.chunk_by(|&one, &other| wanted[one].shard == wanted[other].shard) {
        let mut shard = inner
            .index
            .lock(wanted[group[0]].shard, LockPurpose::Operation);
        group.iter().for_each(|&at| visit(&mut shard, at));
    }
}

/// Returns for each put whether its key has an entry whose time is not over. Takes the lock of each touched shard once.
pub(crate) fn have_entries(inner: &Inner, planned: &[PlannedPut<'_>]) -> Vec<bool> {
    let mut exists = vec![false; planned.len()];
    let mut order: Vec<usize> = (0..planned.len()).collect();
    order.sort_by_key(|&at| planned[at].shard);
    let mut expiry = Expiry::new(inner);
    each_locked(inner, planned, &order, |shard, at| {
        let (hash, key) = (planned[at].hash, &planned[at].key);
        expiry.apply(shard, hash, key);
        exists[at] = shard.get(hash, key).is_some();
    });
    expiry.notify();
    exists
}
