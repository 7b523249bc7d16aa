//! Groups the keys of a batch by shard, so that each phase takes each shard's lock once.

/// The positions of a batch's keys in one shard, last key first: walking them in order leaves the
/// batch's first key as the most recently used.
pub(crate) struct Group {
    pub(crate) shard: usize,
    pub(crate) positions: Vec<usize>,
}

/// Groups the positions `0..count` by `shard_of`.
pub(crate) fn by_shard(count: usize, shard_of: impl Fn(usize) -> usize) -> Vec<Group> {
    let mut order: Vec<(usize, usize)> = (0..count).map(|at| (shard_of(at), at)).collect();
    order.sort_unstable_by_key(|&(shard, at)| (shard, usize::MAX - at));
    let groups = order.chunk_by(|a, b| a.0 == b.0);
    groups
        .map(|group| Group {
            shard: group[0].0,
            positions: group.iter().map(|&(_, at)| at).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_each_position_once_and_the_last_first() {
        let groups = by_shard(7, |at| at % 3);
        let seen: Vec<(usize, Vec<usize>)> =
            groups.into_iter().map(|g| (g.shard, g.positions)).collect();
        assert_eq!(seen, [(0, vec![6, 3, 0]), (1, vec![4, 1]), (2, vec![5, 2])]);
    }
}
