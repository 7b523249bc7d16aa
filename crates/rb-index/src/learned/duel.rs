//! The duel: which arm drives the cache, by the scores of their shadows.

/// Number of arms.
pub(super) const ARMS: usize = 4;

/// A way to drive the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Arm {
    /// Evicts the least recently used, and admits everything.
    Lru,
    /// Evicts what is worth least, and admits what is worth at least `theta` times that.
    Learned {
        /// The knob between hits and writes.
        theta: f32,
    },
}

/// The arms. The second one drives until there are scores.
pub(super) const ALL: [Arm; ARMS] = [
    Arm::Lru,
    Arm::Learned { theta: 1.0 },
    Arm::Learned { theta: 2.5 },
    Arm::Learned { theta: 6.0 },
];

/// Hits that a write costs.
const PRICE: f64 = 0.06;
/// Part of the lookups by which an arm may have fewer hits than LRU: the noise of a shadow. The one that drives first, and
/// admits most, may have a little less.
const BELOW: [f64; ARMS] = [0.0, 0.006, 0.0025, 0.0025];
/// Part of the lookups by which an arm must be better to take over.
const BETTER: f64 = 0.001;
/// Capacities of lookups in which old scores lose half of their weight.
const HALF_LIFE: f64 = 4.0;

/// Counts of the shadows, the latest with more weight.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scores {
    /// Hits before the first miss of their chain.
    pub(super) hits: [f64; ARMS],
    pub(super) writes: [f64; ARMS],
    pub(super) lookups: f64,
}

impl Scores {
    /// Returns the number of the arm to drive from now on. `passed` capacities of lookups have passed since the last
    /// decision.
    pub(super) fn decide(&mut self, current: usize, passed: f64) -> usize {
        let score = |arm: usize| self.hits[arm] - PRICE * self.writes[arm];
        let is_allowed = |arm: usize| self.hits[arm] >= self.hits[0] - BELOW[arm] * self.lookups;
        let mut best = 0;
        for arm in 1..ARMS {
            if is_allowed(arm) && score(arm) > score(best) {
                best = arm;
            }
        }
        let stays = is_allowed(current) && score(best) - score(current) < BETTER * self.lookups;
        let decay = (-passed / HALF_LIFE).exp2();
        let all = self.hits.iter_mut().chain(&mut self.writes);
        all.chain([&mut self.lookups])
            .for_each(|score| *score *= decay);
        if stays { current } else { best }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(hits: [f64; ARMS], writes: [f64; ARMS], current: usize) -> usize {
        let lookups = 1000.0;
        let mut scores = Scores {
            hits,
            writes,
            lookups,
        };
        scores.decide(current, 4.0)
    }

    #[test]
    fn an_arm_drives_while_it_serves_and_saves() {
        let writes = [500.0, 300.0, 200.0, 100.0];
        // No more hits are lost to LRU than allowed, and fewer writes win.
        assert_eq!(decide([300.0, 300.0, 299.5, 290.0], writes, 0), 2);
        assert_eq!(decide([300.0, 350.0, 299.0, 290.0], writes, 0), 1);
        assert_eq!(decide([300.0; ARMS], writes, 1), 3);
        assert_eq!(decide([300.0, 290.0, 290.0, 290.0], writes, 3), 0);
        // Those who are nearly as good stay.
        assert_eq!(decide([300.0, 300.5, 300.0, 300.0], [100.0; ARMS], 2), 2);
        assert_eq!(decide([0.0; ARMS], [0.0; ARMS], 1), 1);
    }

    #[test]
    fn old_scores_fade() {
        let mut scores = Scores {
            hits: [8.0; ARMS],
            ..Scores::default()
        };
        scores.decide(1, 4.0);
        assert_eq!(scores.hits, [4.0; ARMS]);
    }
}
