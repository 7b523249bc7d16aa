//! The choice of each call: a get or a put, and its keys.

use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

use crate::args::{BenchArgs, BenchOp};
use crate::failure::Failure;
use crate::payload::mix;
use crate::series::Kind;

/// Part of gets in a mixed run, in percent, without --get-percent.
pub(super) const GET_PERCENT: u32 = 70;
/// Seed of the order of the keys, so that every run has the same.
const SEED: u64 = 0x5A49_5046;

/// The choices of one thread. The same thread makes the same choices in every run.
#[derive(Clone)]
pub(super) struct Choice {
    keys: u64,
    get_percent: u32,
    /// The distribution of ranks, and the key of each rank; `None` if all keys are equally likely.
    zipf: Option<(Zipf<f64>, Arc<[u32]>)>,
    /// Next number of the sequence of random keys.
    next: u64,
    random: SmallRng,
}

/// Returns the percentage of gets; `None` if nothing is called.
pub(super) fn get_percent(args: &BenchArgs) -> Option<u32> {
    match args.op {
        BenchOp::Get => Some(100),
        BenchOp::Put => Some(0),
        BenchOp::Mixed => Some(args.get_percent.unwrap_or(GET_PERCENT)),
        BenchOp::Idle => None,
    }
}

impl Choice {
    pub(super) fn of(args: &BenchArgs, keys: usize) -> Result<Choice, Failure> {
        let mut random = SmallRng::seed_from_u64(SEED);
        let zipf = |exponent| {
            let zipf = Zipf::new(keys as f64, exponent);
            let zipf =
                zipf.map_err(|why| Failure::usage(format!("--zipf is {exponent}: {why}")))?;
            let all = u32::try_from(keys).map_err(|_| {
                Failure::usage(format!("--zipf chooses among {} keys at most", u32::MAX))
            })?;
            // Neighbours on the device should not be equally popular.
            let mut order: Vec<u32> = (0..all).collect();
            order.shuffle(&mut random);
            Ok::<_, Failure>((zipf, order.into()))
        };
        let zipf = args.zipf.map(zipf).transpose()?;
        Ok(Choice {
            keys: keys as u64,
            get_percent: get_percent(args).unwrap_or(0),
            zipf,
            next: 0,
            random,
        })
    }

    /// Returns the choices of a thread, which are not those of another one.
    pub(super) fn for_thread(&self, thread: u64) -> Choice {
        Choice {
            next: thread << 40,
            random: SmallRng::seed_from_u64(SEED + thread),
            ..self.clone()
        }
    }

    /// Returns the kind and the keys of the next call.
    pub(super) fn call(&mut self, batch: usize) -> (Kind, Vec<usize>) {
        let kind = match self.get_percent {
            100 => Kind::Get,
            0 => Kind::Put,
            percent if self.random.random_range(0..100) < percent => Kind::Get,
            _ => Kind::Put,
        };
        (kind, (0..batch).map(|_| self.key()).collect())
    }

    fn key(&mut self) -> usize {
        if let Some((zipf, order)) = &self.zipf {
            // Ranks begin at 1.
            let rank = zipf.sample(&mut self.random) as usize;
            return order[rank.clamp(1, order.len()) - 1] as usize;
        }
        self.next += 1;
        (mix(self.next - 1) % self.keys) as usize
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn choice(words: &[&str]) -> Choice {
        let start = ["rb", "bench", "--store", "s", "--op"];
        let cli = Cli::try_parse_from([&start[..], words].concat()).unwrap();
        let Command::Bench(args) = cli.command else {
            panic!("it is a bench");
        };
        Choice::of(&args, 1000).unwrap().for_thread(3)
    }

    fn counts(mut choice: Choice) -> (usize, Vec<u64>) {
        let mut keys = vec![0; 1000];
        let mut gets = 0;
        for _ in 0..20_000 {
            let (kind, ids) = choice.call(5);
            gets += usize::from(kind == Kind::Get);
            ids.iter().for_each(|id| keys[*id] += 1);
        }
        keys.sort_unstable_by(|a, b| b.cmp(a));
        (gets, keys)
    }

    #[test]
    fn a_mixed_run_has_its_part_of_gets() {
        assert_eq!(counts(choice(&["get"])).0, 20_000);
        assert_eq!(counts(choice(&["put"])).0, 0);
        for (words, percent) in [
            (&["mixed"][..], 70),
            (&["mixed", "--get-percent", "20"], 20),
        ] {
            let (gets, _) = counts(choice(words));
            assert!(
                (percent * 200 - 600..percent * 200 + 600).contains(&gets),
                "{gets}"
            );
        }
    }

    #[test]
    fn keys_follow_the_distribution() {
        let (_, keys) = counts(choice(&["get"]));
        assert!(keys[0] < 200 && keys[999] > 40, "{keys:?}");
        // With the exponent 1 the k-th key has 1/k of the calls of the first: of 100,000 keys, 13,360.
        let (_, keys) = counts(choice(&["get", "--zipf", "1"]));
        assert!((12_800..14_000).contains(&keys[0]), "{}", keys[0]);
        assert!((6_300..7_100).contains(&keys[1]), "{}", keys[1]);
        assert!((1_200..1_500).contains(&keys[9]), "{}", keys[9]);
    }
}
