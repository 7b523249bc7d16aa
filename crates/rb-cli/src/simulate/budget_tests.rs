//! Ten days of bursty load under a write budget: what is written in any day, and what the bound costs in hits.

use std::collections::VecDeque;

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use rb_core::policy::Learned;
use rb_index::Budget;

use super::cache::Cache;

const DAYS: u64 = 10;
const DAY: u64 = 24 * 60 * 60 * 1000;
const SLOTS: u32 = 4000;
/// Restarts at the ends of these days; at the second one the wall clock is set back by an hour.
const RESTARTS: [u64; 2] = [3, 7];

/// A request: its time in milliseconds and its chain.
type Request = (u64, Vec<u32>);

/// Conversations of which one in three goes on, and documents that some of them share. In the four busy hours of a day
/// there are ten times as many requests as in the others.
fn load(seed: u64) -> Vec<Request> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut next, mut requests) = (0, Vec::new());
    let mut fresh = |count: u32| {
        next += count;
        (next - count..next).collect::<Vec<u32>>()
    };
    let documents: Vec<Vec<u32>> = (0..40).map(|_| fresh(30)).collect();
    let mut open: VecDeque<Vec<u32>> = VecDeque::new();
    let mut time = 0;
    while time < DAYS * DAY {
        let hour = time / 3_600_000 % 24;
        let pause = if (10..14).contains(&hour) {
            9_000
        } else {
            90_000
        };
        time += random.random_range(0..2 * pause);
        let mut chain = match open.len() {
            200.. => open.pop_front().unwrap_or_default(),
            // A document, the first ones more often.
            _ => documents[random
                .random_range(0..40_usize)
                .min(random.random_range(0..40))]
            .clone(),
        };
        chain.extend(fresh(random.random_range(1..12)));
        if random.random_range(0..3) == 0 {
            open.push_back(chain.clone());
        }
        requests.push((time, chain));
    }
    requests
}

/// A bound on what is written.
#[derive(Clone, Copy)]
enum Bound {
    /// Nothing but a floor under the worth of each block.
    Floor(f64),
    /// Blocks of any day.
    Budget(u64),
}

/// Hits before the first miss, and the most blocks written in any 24 hours.
fn run(requests: &[Request], bound: Bound) -> (u64, u64) {
    let mut cache = Cache::new(SLOTS, 4, 0, Some(&Learned::default())).unwrap();
    match bound {
        Bound::Floor(floor) => cache.set_floor(floor),
        Bound::Budget(blocks) => cache.bound(Budget::new(blocks)),
    }
    let (mut hits, mut most) = (0, 0);
    let (mut of_day, mut written) = (VecDeque::new(), 0);
    let mut restarts = RESTARTS.into_iter().peekable();
    for (time, chain) in requests {
        if let Some(day) = restarts.next_if(|day| *time >= day * DAY)
            && let Bound::Budget(blocks) = bound
        {
            let wall = 1_000_000 + time / 1000;
            let set_back = if day == RESTARTS[1] { 3600 } else { 0 };
            let mut budget = Budget::new(blocks);
            let saved = cache.budget().unwrap().save(wall);
            assert!(budget.restore(&saved, wall - set_back));
            cache.bound(budget);
        }
        cache.pass(*time);
        let found: Vec<bool> = cache.lease(chain).collect();
        let prefix = found.iter().take_while(|found| **found).count();
        hits += prefix as u64;
        let missed = chain.iter().zip(&found).filter(|(_, found)| !**found);
        let missed: Vec<u32> = missed.map(|(block, _)| *block).collect();
        let blocks = cache.put(&missed);
        cache.release(chain);
        of_day.push_back((*time, blocks));
        written += blocks;
        while of_day.front().is_some_and(|(old, _)| old + DAY <= *time) {
            written -= of_day.pop_front().map_or(0, |(_, blocks)| blocks);
        }
        most = most.max(written);
    }
    (hits, most)
}

/// At loads of 0.3, 1 and 3 times the budget no day has more writes than it, and the hits are at most a point below those of
/// the best floor that is fixed in advance and keeps each day.
#[test]
fn ten_days_of_bursts_stay_within_the_budget() {
    let requests = load(7);
    let references: u64 = requests.iter().map(|(_, chain)| chain.len() as u64).sum();
    let floors = [0.0, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
    let fixed = floors.map(|floor| run(&requests, Bound::Floor(floor)));
    let (_, unbounded) = fixed[0];
    for (load, of_ten) in [(0.3, 33), (1.0, 10), (3.0, 3)] {
        let budget = unbounded * of_ten / 10;
        let (hits, most) = run(&requests, Bound::Budget(budget));
        let keeps = fixed.iter().filter(|(_, most)| *most <= budget);
        let best = keeps.map(|(hits, _)| *hits).max().unwrap_or(0);
        let ratio = |hits: u64| hits as f64 / references as f64;
        println!(
            "load {load} x the budget of {budget}: {most} written in a day, hits {:.4}, the best floor {:.4}",
            ratio(hits),
            ratio(best)
        );
        assert!(most <= budget + budget / 20, "{load}: {most} of {budget}");
        assert!(ratio(hits) >= ratio(best) - 0.01, "{load}");
    }
}
