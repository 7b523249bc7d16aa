//! Ghosts: what is known of keys that have no entry, in four bytes a key.
//!
//! The keys of a chain are looked up together, so what is known of one key holds for those before it. So only some keys
//! are remembered for the whole window, the *strong* ones: a part of all keys, by their hash, and the last key of each
//! chain. The others are remembered for a fraction of it, which is enough for the put that follows a lookup. This makes a
//! long window cheap.
//!
//! Each ghost is one atomic, without a lock: threads that write the same bucket at the same time may lose a ghost, which
//! costs one misjudged key.

use super::class::COUNT_MAX;
use crate::memory::{NoMemory, zeroed};
use crate::sync::{Tally, Tally32};

/// Ghosts of a bucket; the oldest one is overwritten.
const WAYS: usize = 16;

/// A bucket is a cache line.
#[derive(Debug, zerocopy::FromZeros)]
#[repr(C, align(64))]
struct Bucket([Tally32; WAYS]);

// | tag 15 | class 6 | strong 1 | level of the count 3 | stamp 7 |, 0 if vacant
const STAMP_BITS: u32 = 7;
const LEVEL_SHIFT: u32 = STAMP_BITS;
const STRONG: u32 = 1 << 10;
const CLASS_SHIFT: u32 = 11;
const TAG_SHIFT: u32 = 17;
const TAGS: u32 = 1 << (u32::BITS - TAG_SHIFT);

/// Values of a stamp.
const STAMPS: u32 = 1 << STAMP_BITS;
/// Steps of the stamp in a window. The others are for the sweep, which comes by before stamps are reused.
const WINDOW_STEPS: u32 = 96;
/// Steps of the stamp in which every bucket is swept once.
const SWEEP_STEPS: u32 = STAMPS - WINDOW_STEPS - 4;

/// Reuse counts by level; a count is rounded up.
const LEVELS: [u8; 8] = [0, 1, 2, 3, 4, 6, 10, COUNT_MAX];

/// Weak ghosts age so many times as fast as strong ones.
const HASTE: u32 = 8;
/// One key in so many is strong, by its hash.
const STRONG_ONE_IN: u64 = 8;

/// Knowledge of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The class that its last lookup gave it.
    pub(super) class: u8,
    pub(super) count: u8,
    /// Lookups since then, within a step of the stamp.
    pub(super) gap: u32,
    /// True if it is remembered for the whole window.
    pub(super) strong: bool,
}

#[derive(Debug)]
pub(super) struct Ghosts {
    table: Box<[Bucket]>,
    /// Lookups in a step of the stamp.
    step: u32,
    /// The next bucket to sweep.
    hand: Tally,
    /// Lookups since the hand moved.
    since_sweep: Tally,
}

impl Ghosts {
    /// Makes ghosts in about `bytes` bytes, which are remembered for `window` lookups.
    pub(super) fn new(bytes: usize, window: u32) -> Result<Ghosts, NoMemory> {
        let buckets = (bytes / size_of::<Bucket>()).max(1);
        Ok(Ghosts {
            table: zeroed(buckets)?,
            step: window.div_ceil(WINDOW_STEPS).max(1),
            hand: Tally::default(),
            since_sweep: Tally::default(),
        })
    }

    /// Lookups in a step of the stamps, to which gaps are known.
    pub(super) fn step(&self) -> u32 {
        self.step
    }

    /// Returns whether a key is remembered for the whole window, by its hash.
    #[inline]
    pub(super) fn is_strong(hash: u64) -> bool {
        hash >> 20 & (STRONG_ONE_IN - 1) == 0
    }

    /// Returns the address of the cache line that is read for a key.
    pub(super) fn address(&self, hash: u64) -> *const u8 {
        std::ptr::from_ref(self.bucket(hash)).cast()
    }

    /// Returns what is known of a key.
    #[inline]
    pub(super) fn get(&self, hash: u64, now: u32) -> Option<Known> {
        let (bucket, tag) = self.place(hash);
        let mut ghosts = bucket.iter().map(Tally32::get);
        let ghost = ghosts.find(|ghost| ghost >> TAG_SHIFT == tag)?;
        let stamp = self.stamp(now);
        (age(ghost, stamp) <= WINDOW_STEPS).then(|| Known {
            class: (ghost >> CLASS_SHIFT) as u8 & 63,
            count: LEVELS[(ghost >> LEVEL_SHIFT) as usize & 7],
            gap: steps(ghost, stamp) * self.step,
            strong: ghost & STRONG != 0,
        })
    }

    /// Remembers a key that was looked up at `time`. `last` keys of a chain are strong.
    pub(super) fn set(&self, hash: u64, time: u32, class: u8, count: u8, last: bool) {
        let (bucket, tag) = self.place(hash);
        let stamp = self.stamp(time);
        let strong = if last || Ghosts::is_strong(hash) {
            STRONG
        } else {
            0
        };
        let level = LEVELS.iter().position(|&level| level >= count);
        let level = level.unwrap_or(LEVELS.len() - 1) as u32;
        let new = tag << TAG_SHIFT
            | u32::from(class) << CLASS_SHIFT
            | strong
            | level << LEVEL_SHIFT
            | stamp;
        let mut vacant = None;
        for place in bucket {
            match place.get() {
                ghost if ghost >> TAG_SHIFT == tag => return place.set(new),
                0 => vacant = Some(place),
                _ => {}
            }
        }
        let place = vacant.unwrap_or_else(|| {
            let age = |place: &&Tally32| age(place.get(), stamp);
            bucket.iter().max_by_key(age).expect("a bucket has places")
        });
        place.set(new);
    }

    /// Forgets a key.
    pub(super) fn remove(&self, hash: u64) {
        let (bucket, tag) = self.place(hash);
        let of_tag = |place: &&Tally32| place.get() >> TAG_SHIFT == tag;
        if let Some(place) = bucket.iter().find(of_tag) {
            place.set(0);
        }
    }

    /// Clears forgotten ghosts of as many buckets as are due after `lookups` more lookups: all of them before stamps are
    /// reused.
    pub(super) fn sweep(&self, lookups: u32, now: u32) {
        let buckets = self.table.len();
        let every = u64::from(self.step) * u64::from(SWEEP_STEPS);
        let lookups = u64::from(lookups);
        let since = self.since_sweep.add(lookups) + lookups;
        let due = since * buckets as u64 / every;
        if due == 0 {
            return;
        }
        let due = due.min(buckets as u64) as usize;
        self.since_sweep.set(0);
        let from = self.hand.add(due as u64) as usize;
        let stamp = self.stamp(now);
        for bucket in from..from + due {
            for place in &self.table[bucket % buckets].0 {
                if age(place.get(), stamp) > WINDOW_STEPS {
                    place.set(0);
                }
            }
        }
    }

    #[inline]
    fn place(&self, hash: u64) -> (&[Tally32; WAYS], u32) {
        // A vacant place has the tag 0.
        let tag = (hash as u32 & (TAGS - 1)).max(1);
        (&self.bucket(hash).0, tag)
    }

    #[inline]
    fn bucket(&self, hash: u64) -> &Bucket {
        let bucket = (u128::from(hash) * self.table.len() as u128) >> u64::BITS;
        &self.table[bucket as usize]
    }

    #[inline]
    fn stamp(&self, time: u32) -> u32 {
        time / self.step % STAMPS
    }
}

/// Steps since a ghost was set.
#[inline]
fn steps(ghost: u32, stamp: u32) -> u32 {
    stamp.wrapping_sub(ghost) % STAMPS
}

/// Age of a ghost in steps; that of weak ones counts several times.
#[inline]
fn age(ghost: u32, stamp: u32) -> u32 {
    let haste = if ghost & STRONG == 0 { HASTE } else { 1 };
    steps(ghost, stamp) * haste
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u32 = 96_000;

    fn ghosts() -> Ghosts {
        Ghosts::new(1 << 16, WINDOW).unwrap()
    }

    #[test]
    fn a_ghost_is_known_until_its_window_has_passed() {
        let ghosts = ghosts();
        let (strong, weak) = (1 << 40 | 5, 1 << 41 | 1 << 20 | 9);
        assert!(Ghosts::is_strong(strong) && !Ghosts::is_strong(weak));
        for hash in [strong, weak] {
            assert_eq!(ghosts.get(hash, 10_000), None);
            ghosts.set(hash, 10_000, 33, 5, false);
            let known = ghosts.get(hash, 10_500).unwrap();
            assert_eq!((known.class, known.count), (33, 6));
            assert!(known.gap <= 1000, "{known:?}");
        }
        assert_eq!(ghosts.get(weak, 10_000 + WINDOW / 4), None);
        let known = ghosts.get(strong, 10_000 + WINDOW / 2).unwrap();
        assert!(known.gap.abs_diff(WINDOW / 2) <= 1000, "{known:?}");
        assert_eq!(ghosts.get(strong, 12_000 + WINDOW), None);
        ghosts.set(weak, 10_000, 1, 1, true);
        assert!(
            ghosts.get(weak, 10_000 + WINDOW / 2).is_some(),
            "it is the last of a chain"
        );
        ghosts.remove(weak);
        assert_eq!(ghosts.get(weak, 10_000), None);
    }

    /// Stamps are reused, and a forgotten ghost must not come back with them.
    #[test]
    fn the_sweep_is_faster_than_the_stamps() {
        for batch in [1, 7, 1000] {
            let ghosts = ghosts();
            for key in 0..500_u64 {
                ghosts.set(key << 53 | 7, 0, 3, 1, true);
            }
            let mut now = 0;
            while now < 3 * WINDOW {
                now += batch;
                ghosts.sweep(batch, now);
                if now > WINDOW + 1000 {
                    assert_eq!(ghosts.get(3 << 53 | 7, now), None, "{now}");
                }
            }
            assert!(
                ghosts
                    .table
                    .iter()
                    .flat_map(|bucket| &bucket.0)
                    .all(|ghost| ghost.get() == 0)
            );
        }
    }

    #[test]
    fn a_full_bucket_loses_its_oldest_ghost() {
        let ghosts = Ghosts::new(1, WINDOW).unwrap();
        assert_eq!(ghosts.table.len(), 1);
        for key in 1..=17 {
            ghosts.set(key, key as u32 * 2000, 1, 1, true);
        }
        assert_eq!(ghosts.get(1, 34_000), None);
        assert!((2..=17).all(|key| ghosts.get(key, 34_000).is_some()));
    }
}
