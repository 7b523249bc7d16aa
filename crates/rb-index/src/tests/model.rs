//! Random operations against a naive model: a map for the keys and a vector for the order of use.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::tests::rules::new_entry;
use crate::*;

const KEYS: u64 = 12;
const CLASSES: u64 = 2;
const SLOTS_PER_CLASS: u32 = 6;

fn hash_of(key: u64) -> u64 {
    // Only four hashes for twelve keys, so that colliding keys must be distinguished by their
    // bytes.
    (key % 4).wrapping_mul(0xA076_1D64_78BD_642F)
}

#[derive(Clone, Debug)]
struct Known {
    slots: Vec<SlotId>,
    generation: u64,
    leases: usize,
}

/// One operation: the kind, the key, and a number that makes any further choice.
#[derive(Clone, Copy, Debug)]
struct Step {
    what: u8,
    key: u64,
    pick: usize,
}

fn step() -> impl Strategy<Value = Step> {
    (0..13_u8, 0..KEYS, any::<u16>()).prop_map(|(what, key, pick)| Step {
        what,
        key,
        pick: pick.into(),
    })
}

fn entry_in(slots: &[SlotId]) -> NewEntry<'_> {
    NewEntry {
        more: &slots[1..],
        ..new_entry(slots[0])
    }
}

struct Model {
    index: Index,
    live: HashMap<u64, Known>,
    /// Keys without a lease, least recently used first.
    order: Vec<u64>,
    leases: Vec<(u64, Lease, Vec<SlotId>)>,
    /// Reserved puts with their slots, and the refusal that the model expects, if any.
    puts: Vec<(u64, Vec<SlotId>, Reservation, Option<Published>)>,
    generation: u64,
    /// The durable ticket, and for each slot the ticket that it waits for and whether strictly.
    durable: u64,
    holds: HashMap<SlotId, (u64, bool)>,
}

impl Model {
    fn new(shards: u32) -> Model {
        let classes = vec![vec![0..2, 8..12], vec![2..8]];
        Model {
            index: Index::new(IndexOptions {
                shards,
                classes,
                secret: [0; 16],
            })
            .unwrap(),
            live: HashMap::new(),
            order: Vec::new(),
            leases: Vec::new(),
            puts: Vec::new(),
            generation: 0,
            durable: 0,
            holds: HashMap::new(),
        }
    }

    fn guard(&self, key: u64) -> ShardGuard<'_> {
        self.index
            .lock(self.index.shard_of(hash_of(key)), LockPurpose::Operation)
    }

    fn step(&mut self, step: Step) {
        // So far apart that each step has its own stamp, which makes eviction over shards exact.
        self.index.begin_batch(16);
        self.generation += 1;
        let Step { what, key, pick } = step;
        match what {
            0..=1 => self.announce(pick, key),
            2..=4 => self.publish(pick),
            5 => self.remove(pick, key),
            6 => self.lease(key),
            7 => self.release(pick),
            8 => self.touch(key),
            9 => self.evict_oldest((pick % 2) as u8),
            10 => self.cancel(pick),
            11 => self.make_durable(pick),
            _ => self.invalidate(pick, key),
        }
    }

    fn announce(&mut self, pick: usize, key: u64) {
        // Mostly one slot, sometimes up to four.
        let count = [1, 1, 1, 1, 1, 2, 3, 4][pick / 2 % 8];
        let Some(slots) = self.slots((pick % 2) as u8, key, count) else {
            return;
        };
        let reserve = self.guard(key).reserve(
            hash_of(key),
            &key.to_le_bytes(),
            &slots,
            self.generation,
            PutMode::Replace,
            Place::default(),
        );
        let Reserve::Reserved(reservation) = reserve else {
            panic!("Replace always reserves")
        };
        self.puts.push((key, slots, reservation, None));
    }

    /// Publishes a random reserved put.
    fn publish(&mut self, pick: usize) {
        if self.puts.is_empty() {
            return;
        }
        let at = pick / 2 % self.puts.len();
        let (key, slots, reservation, refusal) = self.puts.swap_remove(at);
        let generation = reservation.generation();
        let live = self.live.get(&key).cloned();
        let former = live.clone().map_or(Vec::new(), |known| known.slots);
        let expected = match (refusal, live) {
            (Some(refusal), _) => refusal,
            (_, Some(known)) if known.generation > generation => Published::Superseded,
            (_, Some(known)) => Published::Replaced {
                slot: known.slots[0],
                generation: known.generation,
                payload_len: entry_in(&known.slots).payload_len,
            },
            _ => Published::Inserted,
        };
        let bytes = key.to_le_bytes();
        let strict = pick.is_multiple_of(2);
        let mut guard = self.guard(key);
        let published = guard.publish(reservation, &bytes, entry_in(&slots));
        guard.recorded(self.generation, strict);
        let waits = (self.generation > self.durable).then_some(self.generation);
        let inserted = matches!(published, Published::Inserted | Published::Replaced { .. });
        if inserted {
            assert_eq!(
                guard.ticket_of(hash_of(key), &bytes),
                waits.unwrap_or(0),
                "the entry is durable with its record"
            );
        }
        drop(guard);
        assert_eq!(published, expected);
        if inserted {
            self.hold(&former, strict);
            self.drop_live(key);
            self.live.insert(
                key,
                Known {
                    slots,
                    generation,
                    leases: 0,
                },
            );
            self.order.push(key);
            self.settle_puts(key, generation, Published::Superseded);
        }
    }

    fn hold(&mut self, slots: &[SlotId], strict: bool) {
        let held = (self.generation, strict);
        self.holds.extend(slots.iter().map(|slot| (*slot, held)));
    }

    /// Makes some of the changes so far durable.
    fn make_durable(&mut self, pick: usize) {
        self.durable = self
            .durable
            .max(self.generation - self.generation.min(pick as u64 % 4));
        self.index.set_durable(self.durable);
    }

    /// Takes slots, all or none; those that wait for the change that freed them are taken last, or not
    /// at all, and then entries of the key's shard are evicted.
    fn slots(&mut self, class: u8, key: u64, count: usize) -> Option<Vec<SlotId>> {
        let mut taken = Vec::new();
        let ready = self.index.take_free(class, count, &mut taken);
        for slot in &taken {
            let (ticket, _) = self.holds.remove(slot).unwrap_or_default();
            assert!(ticket <= self.durable, "{slot:?} waits for {ticket}");
        }
        self.index.take_early(class, count - ready, &mut taken);
        for slot in &taken[ready..] {
            // A slot whose last lease ended late waits for its shard's last change, which is longer
            // than necessary.
            let (ticket, strict) = self.holds.remove(slot).unwrap_or_default();
            let is_held = strict && ticket > self.durable;
            assert!(!is_held, "{slot:?} was taken although it is held");
        }
        let missing = count - taken.len();
        let shard = self.index.shard_of(hash_of(key));
        let of_class = |model: &Model, key: &u64| {
            let slot = model.live[key].slots[0];
            model.index.class_of(slot) == Some(class)
                && model.index.shard_of(hash_of(*key)) == shard
        };
        // Whole entries in the order of their use, until there are enough.
        let (mut victims, mut freed) = (Vec::new(), 0);
        for key in self.order.iter().filter(|key| of_class(self, key)) {
            if freed < missing {
                freed += self.live[key].slots.len();
                victims.push(*key);
            }
        }
        let mut evicted = Vec::new();
        if missing > 0 {
            assert_eq!(self.guard(key).evict(class, missing, &mut evicted), freed);
        }
        assert_eq!(evicted.len(), victims.len());
        let mut given = Vec::new();
        for (gone, victim) in evicted.iter().zip(victims) {
            let known = self.live[&victim].clone();
            assert_eq!(*gone.key, victim.to_le_bytes());
            assert_eq!(gone.generation, known.generation);
            assert!(gone.slots().eq(known.slots.iter().copied()));
            self.drop_live(victim);
            self.holds.retain(|slot, _| !known.slots.contains(slot));
            given.extend(known.slots);
        }
        if freed < missing {
            self.index.give_back(&taken);
            self.index.free_evicted(&given);
            return None;
        }
        self.index.free_evicted(&given[missing..]);
        taken.extend_from_slice(&given[..missing]);
        Some(taken)
    }

    /// Cancels a reserved put.
    fn cancel(&mut self, pick: usize) {
        if !self.puts.is_empty() {
            let at = pick % self.puts.len();
            let (key, slots, reservation, _) = self.puts.swap_remove(at);
            self.guard(key).cancel(reservation, &key.to_le_bytes());
            self.index.give_back(&slots);
        }
    }

    /// Evicts over all shards: the least recently used entry of any shard.
    fn evict_oldest(&mut self, class: u8) {
        let of_class = |key: &&u64| self.index.class_of(self.live[*key].slots[0]) == Some(class);
        let expected = self.order.iter().find(of_class).copied();
        let mut evicted = Vec::new();
        self.index.evict_least(class, 1, &mut evicted);
        let victim = evicted.first().map(|gone| gone.key.to_vec());
        assert_eq!(victim, expected.map(|key| key.to_le_bytes().to_vec()));
        if let Some(key) = expected {
            let slots: Vec<SlotId> = evicted[0].slots().collect();
            assert_eq!(slots, self.live[&key].slots);
            self.index.give_back(&slots);
            self.drop_live(key);
        }
    }

    fn remove(&mut self, pick: usize, key: u64) {
        let mut guard = self.guard(key);
        let removed = guard.remove(hash_of(key), &key.to_le_bytes(), self.generation);
        guard.recorded(self.generation, pick.is_multiple_of(2));
        drop(guard);
        if let (Some(_), Some(known)) = (&removed, self.live.get(&key)) {
            let slots = known.slots.clone();
            self.hold(&slots, pick.is_multiple_of(2));
        }
        assert_eq!(
            removed.map(|r| r.generation),
            self.live.get(&key).map(|k| k.generation)
        );
        self.drop_live(key);
        self.settle_puts(key, self.generation, Published::Removed);
    }

    fn lease(&mut self, key: u64) {
        let mut guard = self.guard(key);
        let lease = guard.lease(hash_of(key), &key.to_le_bytes(), Place::default());
        let more = lease.as_ref().map(|lease| guard.more_slots(lease));
        let more: Vec<SlotId> = more.into_iter().flatten().collect();
        drop(guard);
        assert_eq!(lease.is_some(), self.live.contains_key(&key));
        if let (Some(lease), Some(known)) = (lease, self.live.get_mut(&key)) {
            assert_eq!(lease.located().generation, known.generation);
            assert_eq!(
                (lease.located().slot, &more[..]),
                (known.slots[0], &known.slots[1..])
            );
            known.leases += 1;
            self.order.retain(|&other| other != key);
            self.leases.push((key, lease, known.slots.clone()));
        }
    }

    fn release(&mut self, pick: usize) {
        if self.leases.is_empty() {
            return;
        }
        let at = pick % self.leases.len();
        let (key, lease, _) = self.leases.swap_remove(at);
        let generation = lease.located().generation;
        self.guard(key).release(lease);
        if let Some(known) = self.live.get_mut(&key)
            && known.generation == generation
        {
            known.leases -= 1;
            if known.leases == 0 {
                self.order.push(key);
            }
        }
    }

    fn touch(&mut self, key: u64) {
        let touched = self
            .guard(key)
            .touch(hash_of(key), &key.to_le_bytes(), Place::default());
        assert_eq!(touched.is_some(), self.live.contains_key(&key));
        if self.order.contains(&key) {
            self.order.retain(|&other| other != key);
            self.order.push(key);
        }
    }

    fn invalidate(&mut self, pick: usize, key: u64) {
        if pick.is_multiple_of(2)
            && let Some((key, lease, _)) = self.leases.first()
        {
            let live = self.live.get(key).map(|known| known.generation);
            let expected = live == Some(lease.located().generation);
            assert_eq!(self.guard(*key).invalidate(lease), expected);
            let key = *key;
            if expected {
                self.drop_live(key);
            }
            return;
        }
        let generation = self.live.get(&key).map_or(1, |known| known.generation);
        let forgotten =
            self.guard(key)
                .invalidate_generation(hash_of(key), &key.to_le_bytes(), generation);
        assert_eq!(forgotten, self.live.contains_key(&key));
        self.drop_live(key);
    }

    fn drop_live(&mut self, key: u64) {
        self.live.remove(&key);
        self.order.retain(|&other| other != key);
    }

    fn settle_puts(&mut self, key: u64, generation: u64, what: Published) {
        for (other, _, reservation, refusal) in &mut self.puts {
            if *other == key && reservation.generation() < generation && refusal.is_none() {
                *refusal = Some(what);
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        self.index.audit()?;
        let stats = self.index.stats();
        let mut retired: Vec<SlotId> = self
            .leases
            .iter()
            .filter(|(key, lease, _)| {
                self.live.get(key).map(|known| known.generation) != Some(lease.located().generation)
            })
            .flat_map(|(_, _, slots)| slots.iter().copied())
            .collect();
        retired.sort();
        retired.dedup();
        let total = |of: &dyn Fn(&ClassStats) -> u64| stats.classes.iter().map(of).sum::<u64>();
        let seen = (
            total(&|c| c.live),
            total(&|c| c.retired),
            total(&|c| c.free),
        );
        let live: usize = self.live.values().map(|known| known.slots.len()).sum();
        let reserved: usize = self.puts.iter().map(|(_, slots, ..)| slots.len()).sum();
        let (live, retired) = (live as u64, retired.len() as u64);
        let capacity = CLASSES * u64::from(SLOTS_PER_CLASS) - reserved as u64;
        let expected = (live, retired, capacity - live - retired);
        if seen != expected {
            return Err(format!(
                "live, retired, free: {seen:?}, the model has {expected:?}"
            ));
        }
        for class in 0..CLASSES as u8 {
            let seen = self.index.evictable(class);
            let expected = self.evictable(class);
            if seen != expected {
                return Err(format!(
                    "{seen} slots of class {class} are evictable, the model has {expected}"
                ));
            }
        }
        Ok(())
    }

    /// Returns how many slots of a class have entries without a lease.
    fn evictable(&self, class: u8) -> u64 {
        let slots = self.order.iter().map(|key| &self.live[key].slots);
        let of_class = slots.filter(|slots| self.index.class_of(slots[0]) == Some(class));
        of_class.map(|slots| slots.len() as u64).sum()
    }

    /// Snapshots every shard, loads the result into an index of `shards` shards, and checks that it
    /// has the same entries and evicts them in the same order.
    fn check_reload(&self, shards: u32, step: usize) {
        // Leased entries count as used now, which is later than any other use.
        self.index.begin_batch(16);
        let classes = vec![vec![0..2, 8..12], vec![2..8]];
        let other = Index::new(IndexOptions {
            shards,
            classes,
            secret: [0; 16],
        })
        .unwrap();
        let loader = other.loader().unwrap();
        for shard in 0..self.index.shards() {
            let guard = self.index.lock(shard, LockPurpose::Background);
            let mut cursor = Cursor::default();
            let mut each = |entry: SnapshotEntry<'_>| {
                let first = entry.located.slot;
                let slots: Vec<SlotId> = std::iter::once(first).chain(entry.more).collect();
                let generation = entry.located.generation;
                let new = entry_in(&slots);
                loader.load(entry.hash, entry.key, new, generation, entry.recency);
            };
            while guard.snapshot(&mut cursor, step, &mut each) {}
        }
        let report = loader.finish(self.index.recency_now(), 2);
        assert_eq!(report.entries as usize, self.live.len(), "{report:?}");
        for class in 0..CLASSES as u8 {
            let of_class = |key: &&u64| other.class_of(self.live[*key].slots[0]) == Some(class);
            let expected: Vec<_> = self.order.iter().filter(of_class).collect();
            let mut evicted = Vec::new();
            let slots = self.evictable(class);
            other.evict_least(class, slots as usize, &mut evicted);
            let seen = evicted.iter().map(|gone| gone.key.to_vec());
            let expected_keys = &expected;
            let expected = expected.iter().map(|key| key.to_le_bytes().to_vec());
            assert!(seen.eq(expected), "class {class}");
            let slots: Vec<SlotId> = evicted.iter().flat_map(Evicted::slots).collect();
            for (gone, key) in evicted.iter().zip(expected_keys) {
                assert!(gone.slots().eq(self.live[key].slots.iter().copied()));
            }
            other.give_back(&slots);
        }
        other.audit().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: if cfg!(miri) { 4 } else { 1000 }, ..ProptestConfig::default() })]

    #[test]
    fn any_operations_agree_with_the_model(
        steps in prop::collection::vec(step(), 1..300),
        (shards, other) in (0..3_u32, 0..3_u32),
        snapshot_step in 1..20_usize,
    ) {
        let mut model = Model::new(1 << shards);
        for (number, step) in steps.into_iter().enumerate() {
            model.step(step);
            if number % 16 == 15 {
                model.check().unwrap();
            }
        }
        model.check().unwrap();
        model.check_reload(1 << other, snapshot_step);
    }
}
