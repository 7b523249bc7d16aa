//! The index without a store: a cache of prompt blocks in RAM, with an eviction policy of one's own.
//!
//! `cargo run -p rb-examples --bin index_only_cache`
//!
//! `rb-index` decides which key is in which slot, who reads it and what is evicted; what a slot is, the caller
//! decides. Here it is a piece of RAM; it may be a page of GPU memory. A block is worth nothing without the blocks
//! before it, so the policy evicts whole prompts in the order of their last use, each from its end.
#![expect(clippy::print_stdout, reason = "an example prints what it shows")]

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::hash::{BuildHasher, RandomState};

use rb_index::{
    Entries, Gone, Index, IndexError, IndexOptions, LockPurpose, Lookup, NewEntry, Note, Origin,
    Policies, Policy, PolicyFactory, PutMode, Reserve, Resident, Room,
};

const SLOTS: u32 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut cache = Cache::new()?;
    let prompt = |name: &str| -> Vec<String> { (0..5).map(|at| format!("{name}/{at}")).collect() };
    let (first, second) = (prompt("first"), prompt("second"));
    cache.put(&first)?;
    // 8 slots: the second prompt evicts the end of the first one, and its beginning stays useful.
    cache.put(&second)?;
    println!(
        "{} and {} blocks",
        cache.prefix(&first),
        cache.prefix(&second)
    );
    assert_eq!((cache.prefix(&first), cache.prefix(&second)), (3, 5));

    // The first prompt is used again, so a third one evicts from the end of the second.
    assert_eq!(cache.get(&first[..3])?, ["first/0", "first/1", "first/2"]);
    cache.put(&prompt("third")[..2])?;
    println!(
        "{} and {} blocks",
        cache.prefix(&first),
        cache.prefix(&second)
    );
    assert_eq!((cache.prefix(&first), cache.prefix(&second)), (3, 3));
    assert_eq!(cache.index.stats().refused_victims, 0);
    Ok(cache.index.audit()?)
}

struct Cache {
    index: Index,
    slots: Vec<String>,
    /// Number of the last put. Numbers never repeat; see the crate's page.
    generation: u64,
}

impl Cache {
    fn new() -> Result<Cache, Box<dyn Error>> {
        let random = || RandomState::new().hash_one(0).to_le_bytes();
        let mut secret = [0; 16];
        secret[..8].copy_from_slice(&random());
        secret[8..].copy_from_slice(&random());
        let mut index = Index::new(IndexOptions {
            shards: 1,
            classes: vec![vec![0..SLOTS]],
            secret,
        })?;
        index.use_policy(&TailFirstFactory, &[])?;
        let slots = vec![String::new(); SLOTS as usize];
        Ok(Cache {
            index,
            slots,
            generation: 0,
        })
    }

    /// Puts the blocks of a prompt; the value of a block is its name.
    fn put(&mut self, keys: &[String]) -> Result<(), Box<dyn Error>> {
        let batch = self.index.begin_batch(keys.len());
        for (at, key) in keys.iter().enumerate() {
            let (mut free, mut evicted) = (Vec::new(), Vec::new());
            if self.index.take_free(0, 1, &mut free) == 0 {
                self.index.evict_least(0, 1, &mut evicted);
                free.extend(evicted.iter().map(|entry| entry.slot));
            }
            let slot = *free.first().ok_or("every slot is leased")?;
            let (key, value) = (key.as_bytes(), key.clone());
            let hash = self.index.hash(key);
            let mut shard = self
                .index
                .lock(self.index.shard_of(hash), LockPurpose::Operation);
            self.generation += 1;
            let mode = PutMode::Replace;
            let reserved = shard.reserve(hash, key, &[slot], self.generation, mode, batch.at(at));
            let Reserve::Reserved(reservation) = reserved else {
                return Err("a put that replaces always reserves".into());
            };
            let entry = NewEntry {
                slot,
                more: &[],
                payload_len: value.len() as u32,
                payload_checksum: 0,
                placement: 0,
                expiry: 0,
                metadata: &[],
                verified: true,
            };
            self.slots[slot.0 as usize] = value;
            shard.publish(reservation, key, entry);
        }
        Ok(())
    }

    /// Gets blocks that are all there.
    fn get(&self, keys: &[String]) -> Result<Vec<String>, Box<dyn Error>> {
        let batch = self.index.begin_batch(keys.len());
        let mut values = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let hash = self.index.hash(key.as_bytes());
            let mut shard = self
                .index
                .lock(self.index.shard_of(hash), LockPurpose::Operation);
            let lease = shard.lease(hash, key.as_bytes(), batch.at(at));
            let lease = lease.ok_or_else(|| format!("{key} is not there"))?;
            // While the lease lasts the slot is neither evicted nor written.
            values.push(self.slots[lease.located().slot.0 as usize].clone());
            shard.release(lease);
        }
        Ok(values)
    }

    /// Number of leading blocks that are there.
    fn prefix(&self, keys: &[String]) -> usize {
        let is_there = |key: &&String| {
            let hash = self.index.hash(key.as_bytes());
            let shard = self
                .index
                .lock(self.index.shard_of(hash), LockPurpose::Operation);
            shard.get(hash, key.as_bytes()).is_some()
        };
        keys.iter().take_while(is_there).count()
    }
}

#[derive(Debug)]
struct TailFirstFactory;

impl PolicyFactory for TailFirstFactory {
    fn policies(&self, room: &Room<'_>) -> Result<Policies, IndexError> {
        Ok(Policies::alone(room, || TailFirst {
            uses: HashMap::new(),
            order: vec![BTreeSet::new(); room.slots.len()],
        }))
    }
}

/// The batch of an entry's last use, and its position there, the last first.
type Use = (u64, Reverse<u32>);

/// Evicts the entry whose batch was used longest ago; of one batch, the last entry first.
#[derive(Debug)]
struct TailFirst {
    uses: HashMap<u32, Use>,
    /// For each slot class the entries that are not pinned, the next victim first.
    order: Vec<BTreeSet<(Use, u32)>>,
}

impl TailFirst {
    /// The entry among those that may be evicted, by its last use.
    fn place(&self, entry: &Resident) -> (Use, u32) {
        (self.uses[&entry.entry], entry.entry)
    }

    fn class(&mut self, entry: &Resident) -> &mut BTreeSet<(Use, u32)> {
        &mut self.order[usize::from(entry.class)]
    }
}

impl Policy for TailFirst {
    fn insert(&mut self, new: &Resident, origin: Origin) {
        // This cache never recovers any.
        let Origin::Put(place) = origin else { return };
        self.uses
            .insert(new.entry, (place.batch, Reverse(place.position)));
        let at = self.place(new);
        self.class(new).insert(at);
    }

    fn lookup(&mut self, lookup: &Lookup) -> Note {
        let Some(found) = lookup.found.filter(|_| lookup.purpose.is_use()) else {
            return Note::default();
        };
        let before = self.place(&found);
        let used = (lookup.place.batch, Reverse(lookup.place.position));
        self.uses.insert(found.entry, used);
        if self.class(&found).remove(&before) {
            self.class(&found).insert((used, found.entry));
        }
        Note::default()
    }

    fn pin(&mut self, entry: &Resident) {
        let at = self.place(entry);
        self.class(entry).remove(&at);
    }

    fn unpin(&mut self, entry: &Resident) {
        let at = self.place(entry);
        self.class(entry).insert(at);
    }

    fn remove(&mut self, gone: &Resident, _: Gone) {
        let at = self.place(gone);
        self.class(gone).remove(&at);
        self.uses.remove(&gone.entry);
    }

    fn victim(&mut self, class: u8, _: &Entries<'_>) -> Option<u32> {
        let (_, entry) = self.order[usize::from(class)].first()?;
        Some(*entry)
    }

    fn worth(&self, class: u8, _: &Entries<'_>) -> Option<u64> {
        let ((batch, _), _) = self.order[usize::from(class)].first()?;
        Some(*batch)
    }

    fn evictable(&self, class: u8, each: &mut dyn FnMut(u32)) {
        let entries = self.order[usize::from(class)].iter();
        entries.for_each(|(_, entry)| each(*entry));
    }
}
