//! Hints of a simulated caller: which requests say that their chain has ended.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use super::chains::Chains;
use crate::args::HintRates;

const NONE: u32 = u32::MAX;

/// Returns for each request whether it carries the hint, at random: of the requests whose chain has ended and of the
/// others the given percentages.
pub(super) fn hinted(chains: &Chains, rates: HintRates, seed: u64) -> Vec<bool> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut draw = |ended: bool| {
        let percent = if ended { rates.ended } else { rates.others };
        random.random::<f64>() * 100.0 < percent
    };
    ended(chains).into_iter().map(&mut draw).collect()
}

/// Returns for each request whether its chain has ended: no later request reads a block that it added, or, if it added
/// none, its last block.
fn ended(chains: &Chains) -> Vec<bool> {
    let mut last = vec![NONE; chains.distinct as usize];
    for (request, (_, chain)) in (0..).zip(chains.iter()) {
        for &block in chain {
            last[block as usize] = request;
        }
    }
    // Blocks are numbered in the order of their first use. Those that a chain adds are read together with its first
    // new one, since they follow it.
    let (mut known, mut ended) = (0, Vec::with_capacity(chains.requests()));
    for (request, (_, chain)) in (0..).zip(chains.iter()) {
        let added = chain.iter().find(|&&block| block >= known);
        let decisive = added.or(chain.last());
        ended.push(decisive.is_none_or(|&block| last[block as usize] == request));
        known = chain
            .iter()
            .fold(known, |known, &block| known.max(block + 1));
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Request;

    fn chains(of: &[&[u64]]) -> Chains {
        let request = |ids: &&[u64]| Request {
            timestamp: 0,
            input_length: None,
            hash_ids: ids.to_vec(),
        };
        let requests: Vec<Request> = of.iter().map(request).collect();
        Chains::new(&requests, None)
    }

    #[test]
    fn a_chain_has_ended_when_nobody_reads_what_it_added() {
        let chains = chains(&[
            &[1, 2, 3],
            &[1, 4],
            &[1, 2, 3, 5],
            &[1, 4],
            &[1, 2, 6],
            &[],
            &[1, 7],
            &[1],
        ]);
        let expected = [false, false, true, true, true, true, true, true];
        assert_eq!(ended(&chains), expected);
    }

    #[test]
    fn rates_apply_to_ended_chains_and_to_others() {
        let ids: Vec<Vec<u64>> = (0..2000).map(|at| vec![0, at / 2 + 1]).collect();
        let ids: Vec<&[u64]> = ids.iter().map(Vec::as_slice).collect();
        let chains = chains(&ids);
        let count = |ended: f64, others: f64| {
            let hints = hinted(&chains, HintRates { ended, others }, 1);
            let of = |rest: usize| {
                hints
                    .iter()
                    .skip(rest)
                    .step_by(2)
                    .filter(|hint| **hint)
                    .count()
            };
            // The first reader of each block is followed by another one.
            (of(1), of(0))
        };
        assert_eq!(count(100.0, 0.0), (1000, 0));
        let (ended, others) = count(80.0, 5.0);
        assert!(
            (760..840).contains(&ended) && (20..80).contains(&others),
            "{ended} {others}"
        );
        assert_eq!(count(80.0, 5.0), (ended, others));
    }
}
