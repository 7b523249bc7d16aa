//! Groups the positions of a batch by shard.

/// The positions `0..count`, ordered by shard; within a shard in ascending order.
#[derive(Debug)]
pub(crate) struct ByShard {
    positions: Vec<u32>,
    /// End of each shard's positions.
    ends: Vec<u32>,
}

impl ByShard {
    /// Groups `count` positions; `shard_of` returns the shard of each, below `shards`.
    pub(crate) fn new(count: usize, shards: usize, shard_of: impl Fn(usize) -> usize) -> ByShard {
        let mut ends = vec![0_u32; shards];
        for at in 0..count {
            ends[shard_of(at)] += 1;
        }
        // Start of each shard; every position advances that of its shard by one.
        let mut next = 0;
        for end in &mut ends {
            (*end, next) = (next, next + *end);
        }
        let mut positions = vec![0_u32; count];
        for at in 0..count {
            let end = &mut ends[shard_of(at)];
            positions[*end as usize] = at as u32;
            *end += 1;
        }
        ByShard { positions, ends }
    }

    /// Iterates over the shards that have positions, with those positions, from shard `first` on
    /// and wrapping around.
    pub(crate) fn groups(&self, first: usize) -> impl Iterator<Item = (usize, &[u32])> {
        (first..self.ends.len())
            .chain(0..first)
            .map(|shard| (shard, self.of(shard)))
            .filter(|(_, positions)| !positions.is_empty())
    }

    fn of(&self, shard: usize) -> &[u32] {
        let begin = shard.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.positions[begin as usize..self.ends[shard] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_position_is_in_the_group_of_its_shard_once_and_in_order() {
        let shards = [2, 0, 2, 5, 0, 2];
        let grouped = ByShard::new(shards.len(), 8, |at| shards[at]);
        let groups: Vec<_> = grouped.groups(2).collect();
        assert_eq!(
            groups,
            [(2, &[0, 2, 5][..]), (5, &[3][..]), (0, &[1, 4][..])]
        );
        assert_eq!(ByShard::new(0, 4, |_| 0).groups(0).count(), 0);
    }
}
