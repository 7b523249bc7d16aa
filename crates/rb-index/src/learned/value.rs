//! The value of keeping a block, by its class and age.

use super::ages::{Ages, BUCKETS};
use super::class::{CLASSES, GROUPS, group, is_hot};
use crate::sync::Tally32;

/// Counts of the sampled blocks of each class and age.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    /// References of blocks at that age.
    pub(super) references: Box<[[u32; BUCKETS]; CLASSES]>,
    /// Visits at that age: each stands for one block that spent a period there.
    pub(super) visits: Box<[[u32; BUCKETS]; CLASSES]>,
}

/// References, and the time in lookups that blocks spent waiting for them.
type Evidence = (f64, f64);

/// Blocks of its group's evidence that a class has in any case.
const BORROWED: f64 = 4.0;
/// The same, times the sampled references of a chain: those of one chain are one piece of evidence.
const BORROWED_PER_CHAIN: f64 = 32.0;
/// Blocks of evidence that all classes together lend to each age.
const OVERALL: f64 = 4.0;
/// Part of its evidence that an age lends to the next younger and older ones.
const SMOOTHING: f64 = 0.5;

/// The worth of keeping a block: expected references for each lookup of time that it stays, over the best time to keep it
/// (a Gittins index; Gittins, "Bandit Processes and Dynamic Allocation Indices", 1979).
///
/// Each value is an atomic, since every lookup reads some: a reader may see old and new values, which both were right at
/// about that time.
#[derive(Debug)]
pub(super) struct Values(Box<[[Tally32; BUCKETS]; CLASSES]>);

/// Measures with which values are computed, other than counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measure<'a> {
    pub(super) ages: &'a Ages,
    /// Lookups for which a visit stands.
    pub(super) period: f64,
    /// Mean number of sampled references of a chain.
    pub(super) chain: f64,
    /// Ages at which hot blocks are kept in any case.
    pub(super) guarded: usize,
}

impl Counts {
    pub(super) fn new() -> Counts {
        let zeros = || Box::new([[0; BUCKETS]; CLASSES]);
        Counts {
            references: zeros(),
            visits: zeros(),
        }
    }

    /// Halves the weight of what was counted until now.
    pub(super) fn halve(&mut self) {
        let all = self.references.iter_mut().chain(self.visits.iter_mut());
        all.flatten().for_each(|count| *count /= 2);
    }

    /// Returns the evidence of a class at each age, smoothed over neighbouring ages.
    fn evidence(&self, class: usize, period: f64) -> [Evidence; BUCKETS] {
        let of = |age: usize| {
            let references = f64::from(self.references[class][age]);
            (references, f64::from(self.visits[class][age]) * period)
        };
        std::array::from_fn(|age| {
            let mut sum = of(age);
            let younger = age.checked_sub(1);
            let older = (age + 1 < BUCKETS).then_some(age + 1);
            for (references, time) in younger.into_iter().chain(older).map(of) {
                sum.0 += SMOOTHING * references;
                sum.1 += SMOOTHING * time;
            }
            sum
        })
    }
}

impl Values {
    /// Nothing is known: everything is worth the same.
    pub(super) fn new() -> Values {
        let zeros = |_| std::array::from_fn(|_| Tally32::default());
        Values(Box::new(std::array::from_fn(zeros)))
    }

    /// Replaces the values.
    pub(super) fn replace(&self, with: &Values) {
        let new = with.0.as_flattened().iter().map(Tally32::get);
        for (place, value) in self.0.as_flattened().iter().zip(new) {
            place.set(value);
        }
    }

    #[inline]
    pub(super) fn of(&self, class: u8, age: usize) -> f32 {
        f32::from_bits(self.0[usize::from(class)][age].get())
    }

    /// Computes the values from what was counted. A class with little evidence borrows from its group, and a group from
    /// all blocks.
    pub(super) fn compute(counts: &Counts, measure: Measure<'_>) -> Values {
        let widths: [f64; BUCKETS] = std::array::from_fn(|age| measure.ages.width(age));
        let mut all = [(0.0, 0.0); BUCKETS];
        let mut groups = [[(0.0, 0.0); BUCKETS]; GROUPS];
        let mut own = Vec::with_capacity(CLASSES);
        for class in 0..CLASSES {
            let evidence = counts.evidence(class, measure.period);
            for (age, (references, time)) in evidence.into_iter().enumerate() {
                for sum in [&mut all[age], &mut groups[group(class)][age]] {
                    *sum = (sum.0 + references, sum.1 + time);
                }
            }
            own.push(evidence);
        }
        let overall = overall(&all, &widths);
        let weight = BORROWED + BORROWED_PER_CHAIN * measure.chain;
        let groups = groups.map(|evidence| refined(&overall, &evidence, weight, &widths));
        let values = Values::new();
        for (class, evidence) in own.iter().enumerate() {
            let rates = refined(&groups[group(class)], evidence, weight, &widths);
            let mut of_class = gittins(&rates, &widths);
            if is_hot(class) {
                // A block that is read all the time, as the first of all chains, may be in no sample, and without it
                // all that follows is lost. Its own history is evidence enough until its last gap has passed again.
                of_class[..measure.guarded].fill(1.0);
            }
            for (place, value) in values.0[class].iter().zip(of_class) {
                place.set(value.to_bits());
            }
        }
        values
    }
}

/// Returns the rate of references at each age over all classes. An age without evidence has as many references as the
/// age before it, in a bucket that is half a doubling wider.
fn overall(evidence: &[Evidence; BUCKETS], widths: &[f64; BUCKETS]) -> [f64; BUCKETS] {
    let (mut rates, mut before) = ([0.0; BUCKETS], 0.0);
    for age in 0..BUCKETS {
        let (references, time) = evidence[age];
        let weight = OVERALL * widths[age];
        rates[age] = (references + weight * before) / (time + weight);
        before = match age {
            0 => rates[0],
            _ => rates[age] * std::f64::consts::FRAC_1_SQRT_2,
        };
    }
    rates
}

/// Refines rates with evidence: their level over all ages first, then each age.
fn refined(
    prior: &[f64; BUCKETS],
    evidence: &[Evidence; BUCKETS],
    weight: f64,
    widths: &[f64; BUCKETS],
) -> [f64; BUCKETS] {
    let seen: f64 = evidence.iter().map(|(references, _)| references).sum();
    let expected: f64 = evidence
        .iter()
        .zip(prior)
        .map(|((_, time), rate)| time * rate)
        .sum();
    let level = (seen + weight) / (expected + weight);
    std::array::from_fn(|age| {
        let (references, time) = evidence[age];
        let weight = weight * widths[age];
        (references + weight * level * prior[age]) / (time + weight)
    })
}

/// Returns for each age the greatest ratio of references to time over all times to keep a block. From the oldest age on,
/// a stretch is joined with the next one while that is the better of the two.
fn gittins(rates: &[f64; BUCKETS], widths: &[f64; BUCKETS]) -> [f32; BUCKETS] {
    // Part of the blocks that are still waiting; ratios need it to be more than 0.
    const WAITING_MIN: f64 = 1e-30;
    let mut waiting = 1.0;
    let mut stretches = [(0.0, 0.0); BUCKETS];
    for age in 0..BUCKETS {
        let expected = rates[age] * widths[age];
        let part = waiting / (1.0 + expected);
        stretches[age] = (part * expected, part * widths[age]);
        waiting = f64::max(part, WAITING_MIN);
    }
    let mut joined: Vec<Evidence> = Vec::with_capacity(BUCKETS);
    let mut values = [0.0; BUCKETS];
    for age in (0..BUCKETS).rev() {
        let (mut references, mut time) = stretches[age];
        while let Some(&(more, longer)) = joined.last()
            && more * time >= references * longer
        {
            references += more;
            time += longer;
            joined.pop();
        }
        joined.push((references, time));
        values[age] = (references / time) as f32;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learned::class::{new_part, reused};

    fn measure(ages: &Ages) -> Measure<'_> {
        Measure {
            ages,
            period: 128.0,
            chain: 1.0,
            guarded: 4,
        }
    }

    #[test]
    fn without_evidence_all_classes_but_the_hot_ones_are_worth_nothing() {
        let values = Values::compute(&Counts::new(), measure(&Ages::new(1024)));
        for class in 0..CLASSES as u8 {
            let hot = is_hot(class.into());
            assert_eq!(values.of(class, 0), if hot { 1.0 } else { 0.0 });
            assert_eq!(values.of(class, 4), 0.0);
        }
    }

    /// A class whose blocks are read at an age of a capacity is worth more the nearer that is, and less after it.
    #[test]
    fn the_value_rises_until_the_reference_comes() {
        let (mut counts, ages) = (Counts::new(), Ages::new(1024));
        let class = usize::from(new_part(2, false));
        let at = ages.bucket(1024);
        for age in 0..BUCKETS {
            counts.visits[class][age] = if age <= at { 100 } else { 5 };
        }
        counts.references[class][at] = 2000;
        let values = Values::compute(&counts, measure(&ages));
        let of = |age| values.of(class as u8, age);
        for age in 3..at {
            assert!(of(age) <= of(age + 1), "{age}");
        }
        assert!(of(at + 4) < of(at) / 4.0);
        let other = reused(1, 2, false);
        assert!(values.of(other, 0) < of(0), "another group");
    }

    /// The greatest ratio over all horizons, computed directly.
    #[test]
    fn joined_stretches_are_the_best_horizons() {
        let widths: [f64; BUCKETS] = std::array::from_fn(|age| Ages::new(5000).width(age));
        let mut state = 7_u64;
        for _ in 0..200 {
            let rates: [f64; BUCKETS] = std::array::from_fn(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 40) as f64 / 1e11
            });
            let found = gittins(&rates, &widths);
            for (from, found) in found.into_iter().enumerate() {
                let (mut waiting, mut references, mut time, mut best) = (1.0, 0.0, 0.0, 0.0_f64);
                for age in from..BUCKETS {
                    let expected = rates[age] * widths[age];
                    references += waiting * expected / (1.0 + expected);
                    time += waiting * widths[age] / (1.0 + expected);
                    waiting /= 1.0 + expected;
                    best = best.max(references / time);
                }
                let ratio = f64::from(found) / best;
                assert!((ratio - 1.0).abs() < 1e-3, "{from}: {ratio}");
            }
        }
    }
}
