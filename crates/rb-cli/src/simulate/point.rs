//! One point of a curve: a policy at a capacity.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use rb_index::Budget;

use super::cache::Cache;
use super::chains::Chains;
use super::policies;
use crate::args::PolicyName;
use crate::failure::Failure;

/// Time between a lookup and the store of what it missed, if they are apart: this long on average, in milliseconds.
const APART_MS: u64 = 50;

/// Counts of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) block_refs: u64,
    pub(super) block_hits: u64,
    /// Hits before the first miss of their request.
    pub(super) prefix_hits: u64,
    pub(super) written_blocks: u64,
    pub(super) evictions: u64,
}

/// The settings that all points share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) shards: u32,
    /// True if what a lookup missed is stored later, in another order than that of the requests.
    pub(super) apart: bool,
    pub(super) seed: u64,
    /// Blocks that may be written in any 24 hours.
    pub(super) budget: Option<u64>,
}

/// Runs a trace through a new cache. `hinted` requests say that their chain has ended.
pub(super) fn run(
    chains: &Chains,
    hinted: &[bool],
    policy: PolicyName,
    slots: u32,
    setting: Setting,
) -> Result<(Counts, Duration), Failure> {
    let factory = policies::factory(policy);
    // The default seed is 1, and its secret 0.
    let secret = setting.seed.wrapping_sub(1);
    let mut cache = Cache::new(slots, setting.shards, secret, factory.as_deref())?;
    if let Some(blocks) = setting.budget {
        cache.bound(Budget::new(blocks));
    }
    let mut run = Run {
        cache,
        counts: Counts::default(),
        missed: Vec::new(),
    };
    let start = Instant::now();
    match setting.apart {
        true => run.apart(chains, hinted, setting.seed),
        false => {
            for ((time, chain), &ended) in chains.iter().zip(hinted) {
                run.cache.pass(time);
                run.at_once(chain, ended);
            }
        }
    }
    let time = start.elapsed();
    run.counts.evictions = run.cache.evictions();
    run.cache.audit()?;
    Ok((run.counts, time))
}

/// The time to store the blocks that a request missed, the number of the request, and the blocks.
type Missed = (u64, usize, Vec<u32>);

struct Run {
    cache: Cache,
    counts: Counts,
    missed: Vec<u32>,
}

impl Run {
    /// Looks up a chain, and stores what was missing before it releases what was found.
    fn at_once(&mut self, chain: &[u32], ended: bool) {
        self.cache.chain_ended(ended);
        self.look_up(chain);
        if !self.missed.is_empty() {
            self.counts.written_blocks += self.cache.put(&self.missed);
        }
        self.cache.release(chain);
    }

    /// Looks up each chain at its time, and stores what was missing up to twice [`APART_MS`] later.
    fn apart(&mut self, chains: &Chains, hinted: &[bool], seed: u64) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut later: BinaryHeap<Reverse<Missed>> = BinaryHeap::new();
        for (number, (time, chain)) in chains.iter().enumerate() {
            while later.peek().is_some_and(|Reverse(next)| next.0 <= time) {
                self.store(later.pop(), hinted);
            }
            self.cache.pass(time);
            self.cache.chain_ended(hinted[number]);
            self.look_up(chain);
            self.cache.release(chain);
            if !self.missed.is_empty() {
                let at = time + random.random_range(0..=2 * APART_MS);
                later.push(Reverse((at, number, self.missed.clone())));
            }
        }
        while let next @ Some(_) = later.pop() {
            self.store(next, hinted);
        }
    }

    fn store(&mut self, next: Option<Reverse<Missed>>, hinted: &[bool]) {
        if let Some(Reverse((_, number, missed))) = next {
            self.cache.chain_ended(hinted[number]);
            self.counts.written_blocks += self.cache.put(&missed);
        }
    }

    fn look_up(&mut self, chain: &[u32]) {
        let (mut hits, mut prefix) = (0, None);
        self.missed.clear();
        for (at, found) in self.cache.lease(chain).enumerate() {
            if found {
                hits += 1;
            } else {
                prefix.get_or_insert(at);
                self.missed.push(chain[at]);
            }
        }
        self.counts.block_refs += chain.len() as u64;
        self.counts.block_hits += hits;
        self.counts.prefix_hits += prefix.unwrap_or(chain.len()) as u64;
    }
}
