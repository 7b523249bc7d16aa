//! Belady's bound: the most prefix hits that any policy can have which knows the future and need not keep what it misses.

use std::collections::BTreeSet;

use super::chains::Chains;
use super::point::Counts;

const NEVER: u32 = u32::MAX;

/// Keeps the blocks whose next use is the nearest. A block is next used no later than those after it in its chain, so
/// what is kept is closed under prefixes.
pub(super) fn bound(chains: &Chains, slots: u32) -> Counts {
    let next = next_uses(chains);
    // Kept blocks with their next uses.
    let mut kept: BTreeSet<(u32, u32)> = BTreeSet::new();
    let mut next_of: Vec<Option<u32>> = vec![None; chains.distinct as usize];
    let (mut counts, mut at) = (Counts::default(), 0);
    for (_, chain) in chains.iter() {
        let mut prefix = true;
        for &block in chain {
            let is_kept = next_of[block as usize].take();
            if let Some(next) = is_kept {
                kept.remove(&(next, block));
            }
            prefix &= is_kept.is_some();
            counts.block_refs += 1;
            counts.prefix_hits += u64::from(prefix);
            counts.block_hits += u64::from(is_kept.is_some());
            let next = next[at];
            at += 1;
            if next == NEVER {
                continue;
            }
            if kept.len() as u64 == u64::from(slots)
                && let Some(&(furthest, _)) = kept.last()
            {
                if furthest <= next {
                    continue;
                }
                if let Some((_, evicted)) = kept.pop_last() {
                    next_of[evicted as usize] = None;
                    counts.evictions += 1;
                }
            }
            kept.insert((next, block));
            next_of[block as usize] = Some(next);
            counts.written_blocks += u64::from(is_kept.is_none());
        }
    }
    counts
}

/// The position of the next use of each reference's block.
fn next_uses(chains: &Chains) -> Vec<u32> {
    let references = chains.references();
    let mut next = vec![NEVER; references.len()];
    let mut seen = vec![NEVER; chains.distinct as usize];
    for (at, &block) in references.iter().enumerate().rev() {
        next[at] = std::mem::replace(&mut seen[block as usize], at as u32);
    }
    next
}
