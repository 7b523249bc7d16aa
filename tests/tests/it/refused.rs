//! Refused puts: the records that they leave, so that nothing returns for them, and those that they need not leave.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rb_core::{
    Background, Durability, Error, ManualClock, Put, PutMode, PutOptions, PutOutcome, Random,
    SeededRandom, Store, StoreOptions,
};
use rb_io::OpKind;

use crate::admission::{Picky, put_all};
use crate::each_batch::EACH;
use crate::support::{AtEviction, EIO, Sim, key, slots_of};

/// A refused put left no record. So its key's former value, which was removed or evicted before, returned after a crash,
/// although the result of the put was durable: the value of an admitted put that is evicted again never lets it return.
#[test]
fn nothing_returns_for_a_refused_put_that_is_durable() {
    for (is_async, by_policy) in [(false, false), (false, true), (true, false), (true, true)] {
        let policy = Picky::default();
        policy.admit(u64::MAX);
        let sim = Sim::new(3);
        let open = |options: &mut StoreOptions| match by_policy {
            true => options.policy = Some(Arc::new(policy.clone())),
            false => options.write_budget_per_day = NonZeroU64::new(2 * 8192),
        };
        let store = sim.open_with(open);
        let keys: Vec<_> = (0..3).map(key).collect();
        if by_policy {
            put_all(&store, &keys, PutMode::Replace, false);
            store.sync().unwrap();
            drop(store.get_many(&[&keys[1], &keys[2]]));
            // Evicts the first, and writes nothing where it is.
            let slots = slots_of(&store);
            sim.device.fail_next(OpKind::Write, slots, EIO);
            store.put(&key(9), &[7; 4096]).unwrap_err();
            policy.admit(0);
        } else {
            put_all(&store, &keys[..2], PutMode::Replace, false);
            store.sync().unwrap();
            store.remove(&keys[0]).unwrap();
        }
        assert!(!store.contains(&keys[0]));
        let first = sim.crash();
        assert!(
            first.open().contains(&keys[0]),
            "without the put it returns"
        );
        // A new key and one that is replaced are in the batch, too.
        let names = [0, 1, 5].map(key);
        let puts = names.iter().map(|key| Put::new(key, &[8; 4096])).collect();
        let answers = match is_async {
            true => store.put_many_async(puts, EACH).wait(),
            false => store.put_many(puts, EACH),
        };
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        let replaced = PutOutcome::Replaced { len: 4096 };
        let expected = [PutOutcome::NotAdmitted, replaced, PutOutcome::NotAdmitted];
        assert_eq!(answers, expected, "{is_async} {by_policy}");
        let again = sim.crash();
        let again = again.open();
        assert!(!again.contains(&keys[0]), "{is_async} {by_policy}");
        let value = again.get(&keys[1]).unwrap().expect("it was replaced");
        assert_eq!(value[..], [8; 4096]);
        store.audit().unwrap();
    }
}

/// A refused put that would keep an existing value leaves no record: what returns after a crash is what it would have kept.
#[test]
fn a_refused_put_that_keeps_writes_nothing() {
    let policy = Picky::default();
    let sim = Sim::new(3);
    let store = sim.open_with(|options| options.policy = Some(Arc::new(policy.clone())));
    policy.admit(u64::MAX);
    let keys: Vec<_> = (0..6).map(key).collect();
    put_all(&store, &keys[..3], PutMode::Replace, false);
    store.sync().unwrap();
    let written = || {
        store.sync().unwrap();
        writes(&sim).len()
    };
    let before = written();
    policy.admit(0);
    let answers = put_all(&store, &keys[3..], PutMode::KeepExisting, false);
    assert_eq!(answers, [PutOutcome::NotAdmitted; 3]);
    assert_eq!(written(), before);
    let answers = put_all(&store, &keys[3..], PutMode::Replace, false);
    assert_eq!(answers, [PutOutcome::NotAdmitted; 3]);
    assert!(written() > before, "three records, once");
}

/// A refused put of a batch that missed its deadline took effect when the device answered: it superseded puts of its key
/// that had begun after its answer. The orders of threads differ from run to run, and before this was mended nearly all of
/// them lost the value.
#[test]
fn a_late_refusal_has_no_effect() {
    for trial in 0..3 {
        let policy = Picky::default();
        let sim = Sim::new(40);
        let store = sim.open_with(|options| {
            options.policy = Some(Arc::new(policy.clone()));
            options.io_deadline = Duration::from_millis(150);
            options.background = Background::Threads;
            options.sync_interval = Duration::from_hours(1);
            options.shards = Some(1);
        });
        policy.admit(u64::MAX);
        let keys: Vec<_> = (0..40).map(key).collect();
        put_all(&store, &keys, PutMode::Replace, false);
        store.sync().unwrap();
        sim.device.hold(slots_of(&store));
        // The first is written and hangs, and the second is refused.
        policy.admit(1);
        let put = |keys: &[Vec<u8>]| {
            let puts = keys.iter().map(|key| Put::new(key, &[8; 4096])).collect();
            store.put_many(puts, PutOptions::default())
        };
        let late = put(&[key(110), key(111)]);
        let is_late = |late: &_| matches!(late, Err(Error::TimedOut { .. }));
        assert!(late.iter().all(is_late), "{late:?}");
        assert_eq!(
            store.stats().refused.policy.keys,
            0,
            "it was not the result"
        );
        policy.admit(u64::MAX);
        let held = sim.device.held();
        let later: Vec<_> = (111..141).map(key).collect();
        let later = std::thread::scope(|scope| {
            let later = scope.spawn(|| put(&later).remove(0));
            sim.wait_for_held(held + 30);
            sim.device.release();
            later.join().unwrap()
        });
        assert_eq!(later.unwrap(), PutOutcome::Inserted, "trial {trial}");
        assert!(store.contains(&key(111)), "trial {trial}");
    }
}

/// A store of three slots with a policy, and a value that was evicted.
struct Evicted {
    sim: Sim,
    policy: Picky,
    store: Store,
}

impl Evicted {
    /// Puts three values, writes bases, and evicts the first value, which leaves no record. Then nothing is admitted.
    fn after(bases: usize) -> Evicted {
        let (sim, policy) = (Sim::new(3), Picky::default());
        let store = sim.open_with(|options| options.policy = Some(Arc::new(policy.clone())));
        let keys: Vec<_> = (0..3).map(key).collect();
        policy.admit(u64::MAX);
        put_all(&store, &keys, PutMode::Replace, false);
        store.sync().unwrap();
        (0..bases).for_each(|_| store.checkpoint().unwrap());
        drop(store.get_many(&[&keys[1], &keys[2]]));
        // The write fails, so the slot keeps the value.
        sim.device.fail_next(OpKind::Write, slots_of(&store), EIO);
        store.put(&key(9), &[7; 4096]).unwrap_err();
        policy.admit(0);
        assert!(!store.contains(&keys[0]));
        Evicted { sim, policy, store }
    }

    /// Makes a strict put, which is refused. Returns the number of writes that this took.
    fn refuse(&self, number: u64) -> usize {
        refuse(&self.sim, &self.store, number)
    }

    /// Returns whether the evicted value is back after a crash, with all bases or without one of them.
    fn returns(&self) -> bool {
        let superblock = self.store.superblock();
        let crashes = [None, Some(&superblock.base_a), Some(&superblock.base_b)].map(|damaged| {
            let sim = self.sim.crash();
            damaged
                .into_iter()
                .for_each(|base| sim.corrupt_section(base));
            let store = sim.open();
            assert!(store.recovery().lost_metadata.is_none());
            store.contains(&key(0))
        });
        crashes.contains(&true)
    }
}

/// The lengths of the writes until now.
pub(crate) fn writes(sim: &Sim) -> Vec<u64> {
    let log = sim.device.log();
    let writes = log.iter().filter(|op| op.op == OpKind::Write);
    writes.map(|op| u64::from(op.len)).collect()
}

fn refuse(sim: &Sim, store: &Store, number: u64) -> usize {
    let before = writes(sim).len();
    let name = key(number);
    let put = Put::new(&name, &[8; 4096]);
    let answer = store.put_many(vec![put], EACH).remove(0);
    assert_eq!(answer.unwrap(), PutOutcome::NotAdmitted);
    writes(sim).len() - before
}

/// Each refused put that replaces left a record, which cost a strict one of 4 KiB a commit of 16 KiB, although nothing was
/// there that could return: what a budget refused still wrote.
#[test]
fn only_a_key_that_can_return_gets_a_record() {
    let evicted = Evicted::after(2);
    assert_eq!(evicted.refuse(100), 0, "a new key");
    assert!(evicted.returns(), "nothing prevents it yet");
    assert!(evicted.refuse(0) > 0);
    assert!(!evicted.returns());
    evicted.store.audit().unwrap();
}

/// The last change of the key may be a remove that is not durable: the refused put has no record, and waits for that one.
#[test]
fn a_refused_put_waits_for_the_remove_before_it() {
    let sim = Sim::new(3);
    let budget = NonZeroU64::new(8192);
    let store = sim.open_with(|options| options.write_budget_per_day = budget);
    store.put(&key(0), &[7; 4096]).unwrap();
    (0..2).for_each(|_| store.checkpoint().unwrap());
    store.remove(&key(0)).unwrap();
    let returns = || sim.crash().open().contains(&key(0));
    assert!(returns(), "the remove is not durable");
    assert!(refuse(&sim, &store, 0) > 0);
    assert!(!returns());
    assert_eq!(refuse(&sim, &store, 0), 0);
}

/// The device has two bases, and recovery takes the older one if the newer is damaged.
#[test]
fn a_key_can_return_until_two_bases_are_without_it() {
    for (before, after) in [
        (0, 0),
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
        (2, 2),
        (5, 2),
    ] {
        let evicted = Evicted::after(before);
        (0..after).for_each(|_| evicted.store.checkpoint().unwrap());
        let words = format!("{before} bases, the eviction, {after} bases");
        // Until there are two, the older one has it, or the log after that.
        assert_eq!(evicted.returns(), after < 2, "{words}");
        assert_eq!(evicted.refuse(0) > 0, after < 2, "{words}");
        assert!(!evicted.returns(), "{words}");
        evicted.store.audit().unwrap();
    }
}

/// A new session does not know what left in the one before.
#[test]
fn a_former_sessions_bases_can_have_any_key() {
    let evicted = Evicted::after(1);
    evicted.store.checkpoint().unwrap();
    let sim = evicted.sim.crash();
    let policy = evicted.policy.clone();
    let store = sim.open_with(|options| options.policy = Some(Arc::new(policy.clone())));
    assert!(!store.contains(&key(0)));
    // The third slot is free.
    policy.admit(u64::MAX);
    store.put(&key(3), &[7; 4096]).unwrap();
    policy.admit(0);
    let evicted = Evicted { sim, policy, store };
    evicted.store.checkpoint().unwrap();
    assert!(evicted.refuse(0) > 0);
    assert!(!evicted.returns());
    evicted.store.checkpoint().unwrap();
    assert_eq!(evicted.refuse(0), 0);
    assert!(!evicted.returns());
}

/// A base keeps an evicted entry until the observer knows of its eviction, however long ago that was.
#[test]
fn a_key_can_return_from_bases_that_wait_for_the_observer() {
    let (sim, policy) = (Arc::new(Sim::new(3)), Picky::default());
    let observer = AtEviction::new();
    let events = Arc::clone(&observer);
    let store = sim.open_with(|options| {
        options.policy = Some(Arc::new(policy.clone()));
        options.events = Some(events);
    });
    let keys: Vec<_> = (0..3).map(key).collect();
    policy.admit(u64::MAX);
    put_all(&store, &keys, PutMode::Replace, false);
    drop(store.get_many(&[&keys[1], &keys[2]]));
    let seen = Arc::new(Mutex::new(None));
    let (acting, simulated, result) = (store.clone(), Arc::clone(&sim), Arc::clone(&seen));
    observer.set(move || {
        (0..4).for_each(|_| acting.checkpoint().unwrap());
        let returns = || simulated.crash().open().contains(&key(0));
        let before = returns();
        policy.admit(0);
        refuse(&simulated, &acting, 0);
        *result.lock().unwrap() = Some((before, returns()));
        policy.admit(u64::MAX);
    });
    store.put(&key(9), &[7; 4096]).unwrap();
    assert_eq!(seen.lock().unwrap().take(), Some((true, false)));
    store.audit().unwrap();
}

/// Each record of a strict put of one value is a commit of 16 KiB, which is counted and not bounded: what a budget refused was
/// written beyond it.
#[test]
fn a_budget_holds_for_strict_puts_of_one_value() {
    const BUDGET: u64 = 1 << 20;
    let sim = Sim::new(64);
    let clock = Arc::new(ManualClock::new());
    let store = sim.open_with(|options| {
        options.write_budget_per_day = NonZeroU64::new(BUDGET);
        options.clock = Arc::clone(&clock) as _;
    });
    let before = writes(&sim).len();
    (0..2).for_each(|_| store.checkpoint().unwrap());
    let outcomes = (0..2000).map(|number| {
        let name = key(number);
        let put = Put::new(&name, &[8; 4096]);
        // Less than a day for all of them.
        clock.advance(Duration::from_secs(40));
        store.step_checkpoint().unwrap();
        store.put_many(vec![put], EACH).remove(0).unwrap()
    });
    let refused = outcomes.filter(|outcome| *outcome == PutOutcome::NotAdmitted);
    let refused = refused.count();
    assert!((1900..2000).contains(&refused), "{refused}");
    let written: u64 = writes(&sim)[before..].iter().sum();
    assert!(written <= BUDGET * 105 / 100, "{written} of {BUDGET}");
}

const KEYS: u64 = 8;

/// The knowledge of a random sequence of operations: the newest version that was put or refused, and for each key the highest
/// one that must not be seen any more, now and after a crash.
#[derive(Default)]
struct Known {
    version: u64,
    gone: [u64; KEYS as usize],
    gone_durably: [u64; KEYS as usize],
}

impl Known {
    fn check(&self, store: &Store, gone: &[u64], words: &str) {
        for (number, gone) in (0..).zip(gone) {
            if let Some(value) = store.get(&key(number)).unwrap() {
                let version = u64::from_le_bytes(value[..8].try_into().unwrap());
                assert!(
                    version > *gone,
                    "{words}: key {number} is version {version}, {gone} was refused"
                );
            }
        }
    }

    /// Checks what crashes leave, also if one of the bases is damaged. Returns the number of those after which the metadata
    /// was there.
    fn check_crashes(&self, sim: &Sim, store: &Store, words: &str) -> usize {
        let superblock = store.superblock();
        let damaged = [None, Some(&superblock.base_a), Some(&superblock.base_b)];
        let sound = damaged.iter().filter(|base| {
            let crashed = sim.crash_seeded(self.version);
            base.iter().for_each(|base| crashed.corrupt_section(base));
            let after = crashed.open();
            // A scan finds what was evicted, too.
            let sound = after.recovery().lost_metadata.is_none();
            if sound {
                self.check(&after, &self.gone_durably, words);
            }
            sound
        });
        sound.count()
    }

    /// Puts a key that may be refused. Returns the outcome; a failed write is none.
    fn put(&mut self, store: &Store, number: u64, strict: bool) -> Option<PutOutcome> {
        self.version += 1;
        let mut value = [0; 4096];
        value[..8].copy_from_slice(&self.version.to_le_bytes());
        let options = PutOptions {
            durability: strict.then_some(Durability::EachBatch),
            ..PutOptions::default()
        };
        let name = key(number);
        let answer = store
            .put_many(vec![Put::new(&name, &value)], options)
            .remove(0);
        let outcome = match answer {
            Ok(outcome) => Some(outcome),
            // The device was to fail the write, and takes bad slots out of use.
            Err(Error::Io(_) | Error::NoSpace { .. }) => None,
            Err(why) => panic!("{why}"),
        };
        if outcome == Some(PutOutcome::NotAdmitted) {
            self.gone[number as usize] = self.version;
            if strict {
                self.gone_durably[number as usize] = self.version;
            }
        }
        outcome
    }
}

/// Random sequences of puts, refused ones, evictions that leave their value on the device, removes, bases and sessions.
#[test]
fn nothing_returns_for_refused_puts_of_random_sequences() {
    let (mut sound, mut refused) = (0, 0);
    for seed in 0..20_u64 {
        let source = SeededRandom::new(seed);
        let random = |limit: u64| {
            let mut bytes = [0; 8];
            source.fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes) % limit
        };
        let policy = Picky::default();
        let open = |sim: &Sim| {
            sim.open_with(|options| {
                options.policy = Some(Arc::new(policy.clone()));
                options.shards = Some(1 << (seed % 3));
            })
        };
        let mut sim = Sim::new(4);
        let mut store = open(&sim);
        let mut known = Known::default();
        for step in 0..80 {
            let words = format!("seed {seed}, step {step}");
            let number = random(KEYS);
            match random(16) {
                0..4 => {
                    policy.admit(u64::MAX);
                    known.put(&store, number, random(2) == 0);
                }
                4..8 => {
                    policy.admit(0);
                    let outcome = known.put(&store, number, random(3) > 0);
                    refused += usize::from(outcome == Some(PutOutcome::NotAdmitted));
                }
                8 => {
                    // It may have evicted a value, which stays on the device.
                    policy.admit(u64::MAX);
                    sim.device.fail_next(OpKind::Write, slots_of(&store), EIO);
                    known.put(&store, number, false);
                }
                9 => drop(store.remove(&key(number)).unwrap()),
                10 => {
                    store.sync().unwrap();
                    known.gone_durably = known.gone;
                }
                11..14 => store.checkpoint().unwrap(),
                14 => drop(store.get(&key(number)).unwrap()),
                _ if random(4) == 0 => {
                    match random(2) {
                        0 => {
                            store.close().unwrap();
                            known.gone_durably = known.gone;
                            drop(store);
                        }
                        _ => {
                            sim = sim.crash_seeded(seed);
                            known.gone = known.gone_durably;
                        }
                    }
                    store = open(&sim);
                }
                _ => {}
            }
            known.check(&store, &known.gone, &words);
            if random(3) == 0 {
                sound += known.check_crashes(&sim, &store, &words);
            }
        }
        store.audit().unwrap();
    }
    assert!(
        refused > 100 && sound > 500,
        "{refused} refused, {sound} sound"
    );
}
