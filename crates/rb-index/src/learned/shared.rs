//! The part of the policy that all shards share: it judges chains, admits puts, and finds the shard to evict from.

use super::ages::Ages;
use super::class::{COUNT_MAX, Gaps, new_part, reused};
use super::duel::{ALL, Arm};
use super::ghost::{Ghosts, Known};
use super::lifetime::Lifetimes;
use super::note::{Found, Verdict};
use super::sample::{Sample, Sampled, is_sampled};
use super::saved::Saved;
use super::tails::{Judgement, Next, Search, Tails};
use super::value::{Measure, Values};
use crate::memory::NoMemory;
use crate::note::Note;
use crate::place::Place;
use crate::policy::{Admitted, Judged, Purpose, Room, SharedPolicy};
use crate::sync::{Lock, Tally};

/// Capacities of lookups that the ghosts and the sample remember.
const WINDOW: u64 = 8;
/// Gaps up to an eighth of the capacity are short, and from half of it on long.
const MEDIUM_FROM: u64 = 8;
const LONG_FROM: u64 = 2;
/// A touch this soon after a use, as a part of the capacity, is no further use.
const AGAIN_WITHIN: u64 = 32;
/// Values are computed so many times in a capacity of lookups.
const COMPUTED: u64 = 16;
/// Counts lose half of their weight in so many capacities of lookups.
const HALVED: u64 = 16;
/// Bytes of ghosts and sample for each slot.
const BYTES_PER_SLOT: u64 = 24;
/// The ghosts have at least this part of the bytes.
const GHOSTS_MIN: usize = 8;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ages: Ages,
    pub(super) gaps: Gaps,
    pub(super) again_within: u32,
    pub(super) window: u32,
    capacity: u64,
    /// Lookups until now. Times are its low 32 bits.
    clock: Tally,
    pub(super) ghosts: Ghosts,
    pub(super) tails: Tails,
    searches: Box<[Lock<Search>]>,
    lifetimes: Lifetimes,
    values: Values,
    /// The number of the arm that drives.
    arm: Tally,
    /// False if that arm always drives.
    duels: bool,
    /// The least value of what is written, as the bits of an `f32`.
    floor: Tally,
    /// One key in so many is sampled, as a power of two.
    shift: u32,
    learning: Lock<Learning>,
    /// Lookups that learning has not seen, and their chains.
    unseen: Tally,
    unseen_chains: Tally,
}

#[derive(Debug)]
struct Learning {
    sample: Sample,
    /// Lookups since values were computed, and since counts were halved.
    since_computed: u64,
    since_halved: u64,
}

impl Shared {
    /// Makes the shared part. `driver` is the arm that drives; with `None` they duel.
    pub(super) fn new(room: &Room<'_>, driver: Option<usize>) -> Result<Shared, NoMemory> {
        let capacity = room.slots.iter().sum::<u64>().max(1);
        let lookups = |count: u64| u32::try_from(count).unwrap_or(u32::MAX / 4);
        let window = lookups(WINDOW * capacity);
        let mut sample = Sample::new(capacity, window, ALL);
        let budget = usize::try_from(Shared::bytes(room)).unwrap_or(usize::MAX);
        let ghosts = budget
            .saturating_sub(sample.bytes())
            .max(budget / GHOSTS_MIN);
        let saved = Saved::decode(room.saved);
        let arm = saved.as_ref().map(|saved| u64::from(saved.arm));
        if let Some(saved) = saved {
            sample.restore(saved);
        }
        let slot_classes = room.slots.len();
        let searches = (0..slot_classes).map(|class| Lock::new(Search::new(class as u8)));
        let shared = Shared {
            ages: Ages::new(capacity),
            gaps: Gaps {
                medium: lookups(capacity / MEDIUM_FROM),
                long: lookups(capacity / LONG_FROM),
            },
            again_within: lookups(capacity / AGAIN_WITHIN),
            window,
            capacity,
            clock: Tally::default(),
            ghosts: Ghosts::new(ghosts, window)?,
            tails: Tails::new(slot_classes, room.shards),
            searches: searches.collect(),
            lifetimes: Lifetimes::new(),
            values: Values::new(),
            arm: Tally::new(driver.map_or(arm.unwrap_or(1), |driver| driver as u64)),
            duels: driver.is_none(),
            floor: Tally::default(),
            shift: sample.shift(),
            learning: Lock::new(Learning {
                sample,
                since_computed: capacity,
                since_halved: 0,
            }),
            unseen: Tally::default(),
            unseen_chains: Tally::default(),
        };
        let values = {
            let sample = &shared.learning.lock().sample;
            Values::compute(&sample.counts, shared.measure(sample))
        };
        shared.values.replace(&values);
        Ok(shared)
    }

    /// Bytes of ghosts and sample, about.
    pub(super) fn bytes(room: &Room<'_>) -> u64 {
        BYTES_PER_SLOT * room.slots.iter().sum::<u64>()
    }

    /// The time of a use at this moment.
    #[inline]
    pub(super) fn now(&self) -> u32 {
        self.clock.get() as u32
    }

    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    pub(super) fn arm(&self) -> Arm {
        ALL[self.arm.get() as usize]
    }

    pub(super) fn judgement<'a>(&'a self, values: &'a Values) -> Judgement<'a> {
        Judgement {
            now: self.now(),
            ages: &self.ages,
            values,
            arm: self.arm(),
        }
    }

    fn next(&self, slot_class: u8, values: &Values) -> Option<Next> {
        let mut search = self.searches.get(usize::from(slot_class))?.lock();
        let next = search.next(&self.tails, &self.judgement(values))?;
        Some(next)
    }

    /// Returns what is known of each key: by its shard, by its ghost, or by the keys around it.
    fn known(&self, purpose: Purpose, keys: &[Judged], now: u32) -> (Vec<Option<Found>>, u8) {
        let mut deepest = 0;
        // Of the strong keys before this one the last two.
        let mut before = (true, true);
        let mut all: Vec<Option<Found>> = Vec::with_capacity(keys.len());
        for key in keys {
            let mut known = Found::read(key.note);
            if !key.found {
                let ghost = self.ghosts.get(key.hash, now);
                // A known key was looked up with those before it: if they are unknown, another key has the same tag.
                let ghost = ghost.filter(|_| before.0 || before.1);
                known = ghost.map(|Known { count, gap, .. }| Found {
                    count,
                    gap_level: self.gaps.level(gap),
                    // A touch of a batch that has just been looked up is no further use.
                    again: purpose == Purpose::Touch && gap <= self.ghosts.step(),
                    counted: false,
                });
            }
            if Ghosts::is_strong(key.hash) {
                before = (before.1, known.is_some());
            }
            if let Some(known) = known {
                deepest = (known.count + 1).min(COUNT_MAX);
            }
            all.push(known);
        }
        // A key that is followed by a known one was looked up with it: its ghost was lost.
        let mut follower = None;
        for known in all.iter_mut().rev() {
            match known {
                Some(known) => {
                    follower = Some(Found {
                        again: purpose == Purpose::Touch && known.again,
                        counted: false,
                        ..*known
                    });
                }
                None => *known = follower,
            }
        }
        (all, deepest)
    }

    /// Counts what is written of each class, by the sampled keys.
    pub(super) fn wrote(&self, hash: u64, class: u8) {
        if is_sampled(hash, self.shift) {
            self.lifetimes.wrote(class);
        }
    }

    /// Follows what is sampled of a chain, and learns from it when it is time.
    fn learn(&self, sampled: &[Sampled], lookups: u32, now: u32) {
        self.ghosts.sweep(lookups, now);
        self.unseen_chains.add(1);
        let unseen = self.unseen.add(u64::from(lookups)) + u64::from(lookups);
        if sampled.is_empty() && unseen < self.capacity / COMPUTED {
            return;
        }
        let mut learning = self.learning.lock();
        let Learning {
            sample,
            since_computed,
            since_halved,
        } = &mut *learning;
        let unseen = self.unseen.take();
        let chains = u32::try_from(self.unseen_chains.take()).unwrap_or(u32::MAX);
        let lookups = u32::try_from(unseen).unwrap_or(u32::MAX);
        sample.advance(chains, lookups, now, &self.ages);
        if !sampled.is_empty() {
            sample.follow(sampled, now, &self.ages, self.values());
        }
        *since_computed += unseen;
        if *since_computed >= self.capacity / COMPUTED {
            let passed = std::mem::take(since_computed);
            let values = Values::compute(&sample.counts, self.measure(sample));
            self.values.replace(&values);
            self.lifetimes.divide(&values);
            if self.duels {
                self.decide(sample, passed);
            }
        }
        *since_halved += unseen;
        if *since_halved >= HALVED * self.capacity {
            *since_halved = 0;
            sample.halve();
        }
    }

    fn measure(&self, sample: &Sample) -> Measure<'_> {
        Measure {
            ages: &self.ages,
            period: sample.period,
            chain: sample.references_of_chain(),
            guarded: self.ages.bucket(self.gaps.medium),
        }
    }

    fn decide(&self, sample: &mut Sample, passed: u64) {
        let current = self.arm.get() as usize;
        let passed = passed as f64 / self.capacity as f64;
        let arm = sample.scores.decide(current, passed);
        self.arm.set(arm as u64);
    }
}

impl SharedPolicy for Shared {
    fn judge(&self, place: Place, purpose: Purpose, keys: &mut [Judged]) {
        let count = keys.len() as u32;
        let start = self.now();
        let (all, deepest) = self.known(purpose, keys, start);
        let is_touch = purpose == Purpose::Touch;
        // A key that is touched without an entry or a ghost may be one of many that were looked up a moment ago.
        let is_again = |known: &Option<Found>| known.map_or(is_touch, |known| known.again);
        if all.iter().all(is_again) {
            keys.iter_mut().for_each(|key| key.note = Note::default());
            return;
        }
        self.clock.add(u64::from(count));
        let ended = place.hints.chain_ended;
        let values = self.values();
        let fresh = new_part(deepest, ended);
        let (mut best, mut best_value) = (fresh, -1.0);
        let mut sampled = Vec::new();
        // The last key first: a key is worth at least what follows it.
        for (at, (key, known)) in keys.iter_mut().zip(all).enumerate().rev() {
            let time = start.wrapping_add(count - at as u32);
            let (class, uses) = match known {
                Some(known) => {
                    let uses = (known.count + 1).min(COUNT_MAX);
                    (reused(uses, known.gap_level, ended), uses)
                }
                None => (fresh, 0),
            };
            let value = values.of(class, 0);
            if value >= best_value {
                (best, best_value) = (class, value);
            }
            key.note = Note::default();
            if is_again(&known) {
                continue;
            }
            let known = known.filter(|_| key.found);
            if is_sampled(key.hash, self.shift) && !known.is_some_and(|known| known.counted) {
                let list = best;
                sampled.push(Sampled {
                    hash: key.hash,
                    time,
                    class,
                    list,
                });
            }
            let last = at + 1 == count as usize;
            let verdict = Verdict {
                class: best,
                count: uses,
                last,
            };
            match key.found {
                true if purpose == Purpose::Lease => key.note = verdict.note(),
                true => {}
                false => self.ghosts.set(key.hash, time, best, uses, last),
            }
        }
        sampled.reverse();
        self.learn(&sampled, count, start.wrapping_add(count));
    }

    fn prefetch(&self, hash: u64, fetch: fn(*const u8)) {
        fetch(self.ghosts.address(hash));
    }

    fn admits(&self, slot_class: u8, hashes: &[u64], free: usize) -> Admitted {
        let floor = f32::from_bits(self.floor.get() as u32);
        let theta = match self.arm() {
            Arm::Learned { theta } => theta,
            // A budget cannot be kept by what admits everything.
            Arm::Lru => f32::from(floor > 0.0),
        };
        let mut admitted = Admitted {
            worth: hashes.len(),
            written: hashes.len(),
        };
        let (values, now) = (self.values(), self.now());
        let judgement = Judgement {
            arm: Arm::Learned { theta },
            ..self.judgement(values)
        };
        let next = (theta > 0.0 && free < hashes.len()).then(|| {
            let mut search = self.searches.get(usize::from(slot_class))?.lock();
            Some(search.next(&self.tails, &judgement)?.value)
        });
        let least = theta * next.flatten().unwrap_or(0.0);
        for (at, &hash) in hashes.iter().enumerate() {
            let known = self.ghosts.get(hash, now);
            let value = values.of(known.map_or(new_part(0, false), |known| known.class), 0);
            if value < floor {
                admitted.written = admitted.written.min(at);
            }
            if at >= free && value < least {
                admitted.worth = admitted.worth.min(at);
            }
        }
        admitted
    }

    fn set_floor(&self, floor: f64) {
        let floor = (floor / self.capacity as f64) as f32;
        self.floor.set(floor.to_bits().into());
    }

    fn lifetime(&self, _: u8, hash: u64) -> u8 {
        let known = self.ghosts.get(hash, self.now());
        let class = known.map_or(new_part(0, false), |known| known.class);
        self.lifetimes.of(class)
    }

    fn next_shard(&self, slot_class: u8) -> Option<usize> {
        Some(self.next(slot_class, self.values())?.shard)
    }

    fn save(&self, limit: usize) -> Vec<u8> {
        let learning = self.learning.lock();
        let saved = learning.sample.save(self.arm.get() as u32).encode();
        drop(learning);
        if saved.len() > limit {
            Vec::new()
        } else {
            saved
        }
    }
}
