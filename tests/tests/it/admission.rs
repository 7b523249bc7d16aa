//! Tests of admission: puts that the policy or the write budget refuses, and what both save for the next session.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rb_core::policy::{
    Admitted, Entries, Gone, IndexError, Judged, Learned, Lookup, Lru, Note, Origin, Place,
    Policies, Policy, PolicyFactory, Purpose, Resident, Room, SharedPolicy,
};
use rb_core::{
    ClassRequest, Clock, Error, ManualClock, Put, PutMode, PutOptions, PutOutcome, Share, Store,
    StoreOptions, SwitchPoint,
};

use crate::refused::writes;
use crate::support::{ActsAt, FileFixture, Sim, key};

const DAY: Duration = Duration::from_hours(24);

/// LRU whose shared part refuses as the test asks, and saves a word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picky {
    /// Keys that are admitted before one is refused.
    patience: Arc<AtomicU64>,
    /// True if one refusal is enough: all later keys are admitted.
    forgives: Arc<AtomicBool>,
    /// The states that the sessions found.
    found: Arc<Mutex<Vec<Vec<u8>>>>,
    /// The lengths of the batches that were judged.
    judged: Arc<Mutex<Vec<(Purpose, usize, usize)>>>,
}

const WORD: &[u8] = b"what was learned";

impl Picky {
    pub(crate) fn admit(&self, keys: u64) {
        self.patience.store(keys, Ordering::Relaxed);
    }
}

impl PolicyFactory for Picky {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        self.found.lock().unwrap().push(room.saved.to_vec());
        let lru = |_| -> Box<dyn Policy> { Box::new(Lru::new(room.slots.len())) };
        Ok(Policies {
            of_shards: (0..room.shards).map(lru).collect(),
            shared: Some(Arc::new(self.clone())),
        })
    }
}

impl SharedPolicy for Picky {
    fn judge(&self, _: Place, purpose: Purpose, keys: &mut [Judged]) {
        let found = keys.iter().filter(|key| key.found).count();
        let mut judged = self.judged.lock().unwrap();
        judged.push((purpose, keys.len(), found));
    }

    fn admits(&self, _: u8, hashes: &[u64], _: usize) -> Admitted {
        let take = |left: u64| left.checked_sub(1);
        let order = Ordering::Relaxed;
        let admitted = hashes
            .iter()
            .take_while(|_| self.patience.fetch_update(order, order, take).is_ok())
            .count();
        if admitted < hashes.len() && self.forgives.load(order) {
            self.admit(u64::MAX);
        }
        Admitted {
            worth: admitted,
            written: hashes.len(),
        }
    }

    fn next_shard(&self, _: u8) -> Option<usize> {
        None
    }

    fn save(&self, limit: usize) -> Vec<u8> {
        assert!(limit >= WORD.len());
        WORD.to_vec()
    }
}

pub(crate) fn put_all(
    store: &Store,
    keys: &[Vec<u8>],
    mode: PutMode,
    is_async: bool,
) -> Vec<PutOutcome> {
    let puts = keys.iter().map(|key| Put::new(key, &[7; 4096])).collect();
    let options = PutOptions {
        mode,
        ..PutOptions::default()
    };
    let answers = match is_async {
        true => store.put_many_async(puts, options).wait(),
        false => store.put_many(puts, options),
    };
    answers.into_iter().map(Result::unwrap).collect()
}

/// The first key that is refused ends the batch, also over several parts. What has a value is replaced or kept anyway, and a
/// refused put leaves nothing.
#[test]
fn a_refusal_ends_the_batch_and_spares_what_exists() {
    use PutOutcome::{Existed, Inserted, NotAdmitted, Replaced};
    // With so little buffer memory, a batch has parts of four values.
    for (buffer_bytes, is_async) in [
        (1 << 20, false),
        (1 << 20, true),
        (64 << 10, false),
        (64 << 10, true),
    ] {
        let policy = Picky::default();
        let sim = Sim::new(8);
        let store = sim.open_with(|options| {
            options.policy = Some(Arc::new(policy.clone()));
            options.buffer_bytes = Some(buffer_bytes);
        });
        let old: Vec<_> = (0..8).map(key).collect();
        let all = put_all(&store, &old, PutMode::Replace, is_async);
        assert_eq!(all, [Inserted; 8], "there are free slots");
        store.touch_many(&[&old[6], &old[7]]);
        // The new ones first: what the others replace leaves free slots, for which nothing is refused.
        let mixed: Vec<_> = [100, 101, 102, 7, 6].map(key).into();
        policy.admit(1);
        let answers = put_all(&store, &mixed, PutMode::Replace, is_async);
        let replaced = Replaced { len: 4096 };
        let expected = [Inserted, NotAdmitted, NotAdmitted, replaced, replaced];
        assert_eq!(answers, expected, "{buffer_bytes}, {is_async}");
        let keys: Vec<&[u8]> = mixed.iter().map(Vec::as_slice).collect();
        assert_eq!(store.contains_many(&keys), [true, false, false, true, true]);
        // The slots of the two values that were replaced.
        policy.admit(9);
        put_all(&store, &[key(400), key(401)], PutMode::Replace, is_async);
        policy.admit(0);
        store.sync().unwrap();
        let answers = put_all(&store, &mixed, PutMode::KeepExisting, is_async);
        assert_eq!(
            answers,
            [Existed, NotAdmitted, NotAdmitted, Existed, Existed]
        );
        // Two puts of a refused key are both refused.
        let twice = [key(200), key(200)];
        let answers = put_all(&store, &twice, PutMode::Replace, is_async);
        assert_eq!(answers, [NotAdmitted; 2]);
        let many: Vec<_> = (300..320).map(key).collect();
        policy.admit(5);
        let answers = put_all(&store, &many, PutMode::Replace, is_async);
        let inserted = answers.iter().filter(|answer| **answer == Inserted).count();
        assert_eq!(inserted, 5, "{answers:?}");
        assert!(answers[..5].iter().all(|answer| *answer == Inserted));
        let refused = store.stats().refused;
        assert_eq!(
            (refused.policy.keys, refused.budget.keys),
            (2 + 2 + 1 + 15, 0)
        );
        store.audit().unwrap();
    }
}

/// Each lookup of a batch is judged once, as a whole.
#[test]
fn every_lookup_is_judged_as_a_batch() {
    let policy = Picky::default();
    let sim = Sim::new(8);
    let store = sim.open_with(|options| options.policy = Some(Arc::new(policy.clone())));
    let keys = [key(1), key(2), key(3)];
    put_all(&store, &keys[..2], PutMode::Replace, false);
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    drop(store.get_many(&keys));
    drop(store.get_many_async(&keys).wait());
    let mut memory = [[0; 4096]; 3];
    let mut outputs: Vec<&mut [u8]> = memory.iter_mut().map(|piece| &mut piece[..]).collect();
    drop(store.get_many_into(&keys, &mut outputs));
    drop(store.contains_many(&keys));
    drop(store.touch_many(&keys));
    drop(store.lookup_and_pin(&keys));
    let judged = std::mem::take(&mut *policy.judged.lock().unwrap());
    let purposes = [
        Purpose::Lease,
        Purpose::Lease,
        Purpose::Lease,
        Purpose::Probe,
        Purpose::Touch,
        Purpose::Lease,
    ];
    assert_eq!(judged, purposes.map(|purpose| (purpose, 3, 2)));
}

/// The state that a policy saves comes back, after a close and after a crash; a store without a policy writes no state.
#[test]
fn what_a_policy_has_learned_outlives_the_session() {
    let policy = Picky::default();
    let sim = Sim::new(8);
    let with = |options: &mut StoreOptions| options.policy = Some(Arc::new(policy.clone()));
    let found = || std::mem::take(&mut *policy.found.lock().unwrap());
    let region = || {
        let store = sim.open_with(|options| options.read_only = true);
        let region = store.superblock().policy.clone();
        let mut bytes = vec![0; region.bytes as usize];
        sim.device.peek(region.offset, &mut bytes);
        bytes
    };
    sim.open().close().unwrap();
    assert!(region().iter().all(|byte| *byte == 0));
    let store = sim.open_with(with);
    assert_eq!(found(), [b""]);
    store.put(b"key", b"value").unwrap();
    store.close().unwrap();
    drop(store);
    drop(sim.open_with(with));
    assert_eq!(found(), [WORD]);
    let store = sim.open_with(with);
    store.checkpoint().unwrap();
    found();
    let crashed = sim.crash();
    drop(crashed.open_with(with));
    assert_eq!(found().last().map(Vec::as_slice), Some(WORD));
    // A damaged state counts as none.
    drop(store);
    let store = sim.open_with(|options| options.read_only = true);
    let offset = store.superblock().policy.offset;
    drop(store);
    for at in [offset, offset + 64 * 1024] {
        sim.device.corrupt(at + 4099..at + 4100);
    }
    found();
    drop(sim.open_with(with));
    assert_eq!(found(), [b""]);
}

/// LRU that saves a note of each entry, and records what comes back.
#[derive(Debug)]
struct Noting {
    lru: Lru,
    /// By entry, the note that is saved.
    notes: Vec<Note>,
    back: Arc<Mutex<Vec<(Note, u64)>>>,
}

#[derive(Debug, Default)]
struct NotingFactory(Arc<Mutex<Vec<(Note, u64)>>>);

impl PolicyFactory for NotingFactory {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        let make = |_| -> Box<dyn Policy> {
            Box::new(Noting {
                lru: Lru::new(room.slots.len()),
                notes: Vec::new(),
                back: Arc::clone(&self.0),
            })
        };
        Ok(Policies {
            of_shards: (0..room.shards).map(make).collect(),
            shared: None,
        })
    }
}

impl Policy for Noting {
    fn insert(&mut self, new: &Resident, origin: Origin) {
        let at = new.entry as usize;
        self.notes.resize(self.notes.len().max(at + 1), Note(0));
        self.notes[at] = match origin {
            Origin::Put(place) => Note(1000 + place.position as u16),
            Origin::Saved { note, uses_ago } => {
                self.back.lock().unwrap().push((note, uses_ago));
                note
            }
        };
        self.lru.insert(new, origin);
    }

    fn lookup(&mut self, lookup: &Lookup) -> Note {
        self.lru.lookup(lookup)
    }

    fn pin(&mut self, entry: &Resident) {
        self.lru.pin(entry);
    }

    fn unpin(&mut self, entry: &Resident) {
        self.lru.unpin(entry);
    }

    fn remove(&mut self, gone: &Resident, why: Gone) {
        self.lru.remove(gone, why);
    }

    fn victim(&mut self, class: u8, entries: &Entries<'_>) -> Option<u32> {
        self.lru.victim(class, entries)
    }

    fn worth(&self, class: u8, entries: &Entries<'_>) -> Option<u64> {
        self.lru.worth(class, entries)
    }

    fn saved(&self, entry: u32) -> Note {
        self.notes[entry as usize]
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        self.lru.evictable(class, each);
    }
}

/// The notes of entries come back with a base, least recently used first, each with its age.
#[test]
fn notes_of_entries_come_back() {
    let factory = Arc::new(NotingFactory::default());
    let sim = Sim::new(16);
    let open = || {
        sim.open_with(|options| {
            options.policy = Some(Arc::clone(&factory) as _);
            options.shards = Some(1);
        })
    };
    let store = open();
    let keys: Vec<_> = (0..4).map(key).collect();
    put_all(&store, &keys, PutMode::Replace, false);
    // Some time later the second one is used.
    for _ in 0..10 {
        store.touch_many(&[&keys[1][..]; 16]);
    }
    store.close().unwrap();
    drop(store);
    for _ in 0..2 {
        let store = open();
        let back = std::mem::take(&mut *factory.0.lock().unwrap());
        let mut notes: Vec<u16> = back.iter().map(|(note, _)| note.0).collect();
        assert_eq!(notes[3], 1001, "it was used last");
        notes.sort_unstable();
        assert_eq!(notes, [1000, 1001, 1002, 1003]);
        let ages: Vec<u64> = back.iter().map(|(_, age)| *age).collect();
        assert!(ages[2] >= ages[3] + 128, "{ages:?}");
        store.close().unwrap();
    }
}

/// The evidence and the notes of entries come back: what was worth its slot before the restart is so after it.
#[test]
fn a_learned_store_is_full_of_hits_after_a_restart() {
    const HOT: usize = 256;
    let class = ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(1024),
    };
    let fixture = FileFixture::with(vec![class], |_| {});
    let open = |policy: Option<Arc<dyn PolicyFactory>>| {
        let options = StoreOptions {
            policy,
            shards: Some(1),
            ..fixture.options()
        };
        Store::open(fixture.path(), options).unwrap()
    };
    let learned = || -> Option<Arc<dyn PolicyFactory>> { Some(Arc::new(Learned::default())) };
    let hot: Vec<_> = (0..HOT as u64).map(key).collect();
    // A round looks up what is hot, and then a scan of more keys than there are slots, which come never again.
    let round = |store: &Store, number: u64| {
        let serve = |chain: &[Vec<u8>]| {
            let keys: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
            let got = store.get_many(&keys);
            let missed = chain.iter().zip(&got);
            let missed = missed.filter(|(_, got)| got.as_ref().unwrap().is_none());
            let missed: Vec<_> = missed.map(|(key, _)| key.clone()).collect();
            drop(got);
            put_all(store, &missed, PutMode::KeepExisting, false);
            chain.len() - missed.len()
        };
        let hits = serve(&hot);
        for part in 0..5 {
            let scan = (0..240).map(|at| key(1000 + 1200 * number + 240 * part + at));
            serve(&scan.collect::<Vec<_>>());
        }
        hits
    };
    let store = open(None);
    assert_eq!(
        (0..5).map(|number| round(&store, number)).sum::<usize>(),
        0,
        "LRU keeps nothing"
    );
    store.close().unwrap();
    drop(store);
    let store = open(learned());
    let learning: usize = (5..40).map(|number| round(&store, number)).sum();
    assert!(learning > HOT, "{learning}");
    let kept: usize = (40..50).map(|number| round(&store, number)).sum();
    assert!(kept >= 10 * HOT * 9 / 10, "{kept}");
    store.close().unwrap();
    drop(store);
    let store = open(learned());
    let kept: usize = (50..55).map(|number| round(&store, number)).sum();
    assert!(kept >= 5 * HOT * 9 / 10, "{kept}");
}

/// A store with the budget of `values` values of 4 KiB with their headers, for any day.
fn with_budget(sim: &Sim, clock: &Arc<ManualClock>, values: u64) -> Store {
    sim.open_with(|options| {
        options.write_budget_per_day = NonZeroU64::new(values * 8192);
        options.clock = Arc::clone(clock) as _;
        // Only values are counted, which makes the test exact.
        options.timed = false;
    })
}

/// A session that closed was not charged for its last base, nor for the log since the last look: a store that was opened and
/// closed often wrote several times its budget.
#[test]
fn what_a_session_writes_at_its_end_is_charged() {
    let sim = Sim::new(512);
    let clock = Arc::new(ManualClock::new());
    clock.set_wall(SystemTime::UNIX_EPOCH + 100 * DAY);
    let open = || {
        sim.open_with(|options| {
            options.write_budget_per_day = NonZeroU64::new(1 << 30);
            options.clock = Arc::clone(&clock) as _;
        })
    };
    let spent = |store: &Store| store.stats().budget.unwrap().spent_bytes;
    let before = writes(&sim).len();
    for session in 0..12 {
        let store = open();
        let keys: Vec<_> = (20 * session..20 * session + 20).map(key).collect();
        put_all(&store, &keys, PutMode::Replace, false);
        store.close().unwrap();
    }
    let written: u64 = writes(&sim)[before..].iter().sum();
    let found = spent(&open());
    // Superblock, close record and the state itself are not charged.
    assert!(
        (written * 9 / 10..=written).contains(&found),
        "{found} of {written}"
    );
}

/// The records of removes were charged at the next put, so a crash before that put lost them.
#[test]
fn what_removes_write_survives_a_crash() {
    let sim = Sim::new(64);
    let clock = Arc::new(ManualClock::new());
    clock.set_wall(SystemTime::UNIX_EPOCH + 100 * DAY);
    let open = |sim: &Sim| {
        sim.open_with(|options| {
            options.write_budget_per_day = NonZeroU64::new(1 << 20);
            options.clock = Arc::clone(&clock) as _;
        })
    };
    let store = open(&sim);
    let keys: Vec<_> = (0..40).map(key).collect();
    put_all(&store, &keys, PutMode::Replace, false);
    let before = writes(&sim).len();
    for key in &keys {
        store
            .remove_many(&[key])
            .into_iter()
            .for_each(|answer| assert_eq!(answer.unwrap(), Some(4096)));
        clock.advance(Duration::from_secs(2));
        store.sync().unwrap();
    }
    let written: u64 = writes(&sim)[before..].iter().sum();
    let spent = open(&sim.crash()).stats().budget.unwrap().spent_bytes;
    let values = 40 * 8192;
    // The states that were saved meanwhile are not charged.
    assert!(
        spent >= values + written / 2,
        "{spent} of {values} and {written}"
    );
}

/// The budget is a hard limit for what is new, and is not refilled by a restart, a crash or a clock that is set.
#[test]
fn no_day_has_more_writes_than_the_budget() {
    use PutOutcome::{Inserted, NotAdmitted, Replaced};
    let clock = Arc::new(ManualClock::new());
    clock.set_wall(SystemTime::UNIX_EPOCH + 100 * DAY);
    let sim = Sim::new(64);
    let store = with_budget(&sim, &clock, 10);
    let keys: Vec<_> = (0..12).map(key).collect();
    let answers = put_all(&store, &keys, PutMode::Replace, false);
    assert_eq!(answers[..10], [Inserted; 10]);
    assert_eq!(answers[10..], [NotAdmitted; 2]);
    // A put that replaces a value is written, or a get would return the former one.
    let replaced = put_all(&store, &keys[..1], PutMode::Replace, true);
    assert_eq!(replaced, [Replaced { len: 4096 }]);
    let stats = store.stats();
    assert_eq!(
        (stats.refused.budget.keys, stats.refused.policy.keys),
        (2, 0)
    );
    assert_eq!(stats.refused.budget.bytes, 2 * 4096);
    let budget = stats.budget.unwrap();
    assert_eq!(
        (budget.bytes_per_day, budget.spent_bytes),
        (10 * 8192, 11 * 8192)
    );
    assert!(budget.floor > 0.0);
    store.close().unwrap();
    drop(store);
    // The clock is set by a week: at most an hour of it is believed.
    clock.set_wall(SystemTime::UNIX_EPOCH + 107 * DAY);
    let store = with_budget(&sim, &clock, 10);
    let fresh = [key(100)];
    assert_eq!(
        put_all(&store, &fresh, PutMode::Replace, false),
        [NotAdmitted]
    );
    assert!(store.get(&fresh[0]).unwrap().is_none());
    clock.advance(DAY);
    assert_eq!(put_all(&store, &fresh, PutMode::Replace, false), [Inserted]);
    // A crash loses at most a hundredth, once a commit has saved the rest.
    store.sync().unwrap();
    let crashed = sim.crash_seeded(3);
    let store = with_budget(&crashed, &clock, 10);
    let spent = store.stats().budget.unwrap().spent_bytes;
    assert!(spent >= 8192, "{spent}");
}

/// The first part of a batch evicted the value of a key that a later part was to replace. The key had no value then, so the
/// policy refused it, and the caller had neither the old value nor the new one.
#[test]
fn a_batch_replaces_what_its_first_part_has_evicted() {
    use PutOutcome::{Inserted, NotAdmitted};
    for (buffer_bytes, is_async) in [(1 << 20, true), (16 << 10, false)] {
        for mode in [PutMode::Replace, PutMode::KeepExisting] {
            let policy = Picky::default();
            let sim = Sim::new(8);
            let store = sim.open_with(|options| {
                options.policy = Some(Arc::new(policy.clone()));
                // Parts of one value.
                options.buffer_bytes = Some(buffer_bytes);
            });
            for number in 0..8 {
                put_all(&store, &[key(number)], PutMode::Replace, false);
            }
            policy.admit(1);
            // The first key evicts the second.
            let batch = [100, 0, 101].map(key);
            let answers = put_all(&store, &batch, mode, is_async);
            assert_eq!(
                answers,
                [Inserted, Inserted, NotAdmitted],
                "{is_async}, {mode:?}"
            );
            assert!(store.contains(&key(0)));
            store.audit().unwrap();
        }
    }
}

/// A refusal in one part of a batch ends the parts that follow, also if the policy would admit their keys: they are worth
/// nothing without the refused one. The policy of the first test refuses all from then on, so that test passed without it.
#[test]
fn a_refusal_ends_the_parts_that_follow() {
    for is_async in [false, true] {
        for mode in [PutMode::Replace, PutMode::KeepExisting] {
            let policy = Picky::default();
            let sim = Sim::new(8);
            let store = sim.open_with(|options| {
                options.policy = Some(Arc::new(policy.clone()));
                // Parts of four values.
                options.buffer_bytes = Some(64 << 10);
            });
            let old: Vec<_> = (0..8).map(key).collect();
            put_all(&store, &old, PutMode::Replace, false);
            store.sync().unwrap();
            policy.admit(1);
            policy.forgives.store(true, Ordering::Relaxed);
            let new: Vec<_> = (100..108).map(key).collect();
            let answers = put_all(&store, &new, mode, is_async);
            assert_eq!(answers[0], PutOutcome::Inserted, "{is_async}, {mode:?}");
            assert_eq!(
                answers[1..],
                [PutOutcome::NotAdmitted; 7],
                "{is_async}, {mode:?}"
            );
        }
    }
}

/// With a budget that is enough, the policy refuses as it does without one: where something would be evicted, and not once
/// for the whole batch before. What it refuses is its refusal, and costs nothing.
#[test]
fn a_budget_that_is_enough_refuses_nothing() {
    let policy = Picky::default();
    let sim = Sim::new(4);
    let store = sim.open_with(|options| {
        options.policy = Some(Arc::new(policy.clone()));
        options.write_budget_per_day = NonZeroU64::new(1 << 30);
        options.timed = false;
    });
    let keys: Vec<_> = (0..4).map(key).collect();
    put_all(&store, &keys, PutMode::Replace, false);
    let fresh: Vec<_> = (10..13).map(key).collect();
    let answers = put_all(&store, &fresh, PutMode::Replace, false);
    assert_eq!(answers, [PutOutcome::NotAdmitted; 3]);
    let stats = store.stats();
    assert_eq!(
        (stats.refused.policy.keys, stats.refused.budget.keys),
        (3, 0)
    );
    assert_eq!(stats.budget.unwrap().spent_bytes, 4 * 8192);
}

/// A put saw that there was a free slot, and did not look whether its key had a value; another put took the slot. Then the
/// policy refused it, and the former value stayed: the race of threads found it.
#[test]
fn a_put_that_replaces_is_not_refused_when_another_takes_its_slot() {
    let policy = Picky::default();
    // Before the put takes its slots.
    let between = ActsAt::new(SwitchPoint::PutJudged);
    let sim = Sim::new(4);
    let store = sim.open_with(|options| {
        options.policy = Some(Arc::new(policy.clone()));
        options.simulator = Some(Arc::clone(&between) as _);
    });
    let old: Vec<_> = (0..3).map(key).collect();
    put_all(&store, &old, PutMode::Replace, false);
    let acting = store.clone();
    between.set(move || drop(put_all(&acting, &[key(100)], PutMode::Replace, false)));
    let answers = put_all(&store, &old[..1], PutMode::Replace, false);
    assert_eq!(answers, [PutOutcome::Replaced { len: 4096 }]);
    assert!(between.has_acted(), "nothing was put");
}

/// To ask for lengths is no lookup: an adapter asked for those of what was evicted, and the policy learned that all of it was
/// wanted again. A replay of a trace through the adapter had .224 of the blocks instead of .274.
#[test]
fn lengths_are_no_lookup() {
    let policy = Picky::default();
    policy.admit(1);
    let sim = Sim::new(4);
    let store = sim.open_with(|options| options.policy = Some(Arc::new(policy.clone())));
    let keys: Vec<_> = (0..4).map(key).collect();
    for key in &keys {
        store.put(key, &[7; 4096]).unwrap();
    }
    let asked: Vec<&[u8]> = vec![&keys[0], b"missing"];
    assert_eq!(store.lengths_of_many(&asked), [Some(4096), None]);
    assert_eq!(*policy.judged.lock().unwrap(), []);
    store.put(b"another", &[7; 4096]).unwrap();
    assert!(!store.contains(&keys[0]), "it is still the oldest");
    store.close().unwrap();
    assert_eq!(store.lengths_of_many(&asked), [None, None]);
}

/// A put that fails before it writes is paid back, too: it was charged, and a store whose slots are all leased used up its
/// budget without a write.
#[test]
fn a_put_that_fails_costs_nothing() {
    for is_async in [false, true] {
        let clock = Arc::new(ManualClock::new());
        let sim = Sim::new(5);
        let store = with_budget(&sim, &clock, 10);
        let keys: Vec<_> = (0..5).map(key).collect();
        put_all(&store, &keys, PutMode::Replace, is_async);
        let pinned: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let pins = store.lookup_and_pin(&pinned);
        for _ in 0..20 {
            let put = vec![Put::new(b"more", &[7; 4096])];
            let answers = match is_async {
                true => store.put_many_async(put, PutOptions::default()).wait(),
                false => store.put_many(put, PutOptions::default()),
            };
            assert!(
                matches!(answers[0], Err(Error::NoSpace { .. })),
                "{answers:?}"
            );
        }
        assert_eq!(store.stats().budget.unwrap().spent_bytes, 5 * 8192);
        drop(pins);
    }
}

/// A put that writes nothing is paid back.
#[test]
fn a_put_that_keeps_a_value_costs_nothing() {
    let clock = Arc::new(ManualClock::new());
    let sim = Sim::new(64);
    let store = with_budget(&sim, &clock, 10);
    let keys: Vec<_> = (0..5).map(key).collect();
    put_all(&store, &keys, PutMode::Replace, false);
    for _ in 0..20 {
        let answers = put_all(&store, &keys, PutMode::KeepExisting, false);
        assert_eq!(answers, [PutOutcome::Existed; 5]);
    }
    assert_eq!(store.stats().budget.unwrap().spent_bytes, 5 * 8192);
}

/// Values of the largest class were judged after those of the others, and values of several slots after those of one. So a
/// refusal of the first block of a chain did not end it, and blocks were written that are worth nothing without it.
#[test]
fn values_of_all_sizes_are_judged_in_the_order_of_their_batch() {
    use PutOutcome::{Inserted, NotAdmitted};
    let class = |slot_bytes| ClassRequest {
        slot_bytes,
        share: Share::Slots(8),
    };
    let two_classes = vec![class(4096), class(64 << 10)];
    for (classes, longest) in [(vec![class(4096)], 8000), (two_classes, 60_000)] {
        let policy = Picky::default();
        let fixture = FileFixture::with(classes, |_| {});
        let store = fixture.open_with(|options| options.policy = Some(Arc::new(policy.clone())));
        policy.admit(u64::MAX);
        for n in 0..8 {
            store.put(&key(n), &[1; 4000]).unwrap();
            store.put(&key(100 + n), &vec![1; longest]).unwrap();
        }
        store.sync().unwrap();
        let keys: Vec<_> = (200..204).map(key).collect();
        let lengths = [longest, 4000, 4000, 4000];
        let values: Vec<Vec<u8>> = lengths.map(|len| vec![2; len]).into();
        for (admitted, expected) in [
            (0, [NotAdmitted; 4]),
            (2, [Inserted, Inserted, NotAdmitted, NotAdmitted]),
        ] {
            policy.admit(admitted);
            let puts = keys.iter().zip(&values);
            let puts = puts.map(|(key, value)| Put::new(key, value)).collect();
            let answers = store.put_many(puts, PutOptions::default());
            let answers: Vec<PutOutcome> = answers.into_iter().map(Result::unwrap).collect();
            assert_eq!(answers, expected, "{longest}, {admitted} admitted");
        }
        store.audit().unwrap();
    }
}

/// A value whose time was over counted as one that is replaced: it was charged without a limit and never refused, so the
/// budget was no limit for values that expire.
#[test]
fn a_value_whose_time_is_over_is_new_to_the_budget() {
    for mode in [PutMode::Replace, PutMode::KeepExisting] {
        let clock = Arc::new(ManualClock::new());
        clock.set_wall(SystemTime::UNIX_EPOCH + DAY);
        let sim = Sim::new(64);
        let store = with_budget(&sim, &clock, 10);
        let mut written = 0;
        for _ in 0..40 {
            let put = Put::new(b"k", &[7; 4096]).with_expiry(clock.wall() + Duration::from_secs(1));
            let options = PutOptions {
                mode,
                ..PutOptions::default()
            };
            let outcome = store.put_many(vec![put], options).remove(0).unwrap();
            written += u64::from(outcome != PutOutcome::NotAdmitted);
            clock.advance(Duration::from_secs(10));
        }
        assert_eq!(written, 10, "{mode:?}");
        assert!(store.stats().budget.unwrap().spent_bytes <= 10 * 8192);
    }
}
