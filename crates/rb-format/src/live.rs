//! Decides which slots are live from a checkpoint base and the log behind it, without a store.

use std::collections::HashMap;

use crate::{BaseEntry, BaseHeader, Generation, LogBlock, Record};

/// A value that a store serves after recovery, if the bytes of its slots are whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveValue {
    /// The key.
    pub key: Box<[u8]>,
    /// The slots in the order of the value's bytes, at least one.
    pub slots: Vec<u32>,
    /// The number of the put.
    pub generation: Generation,
    /// Length of the value in bytes.
    pub payload_len: u32,
}

/// Collects base entries and log blocks, in any order, and returns the live values.
///
/// A put is live if it has the highest generation of its key, no remove of the key has a higher one, and it
/// has the highest generation of each of its slots. The entries and blocks must have been decoded: nothing is
/// checked here. Memory: one entry per key and one per slot that was ever named.
///
/// ```
/// use rb_format::{Generation, Identity, LiveSlots, LogBlock, LogEncoder, LogPosition, MoreSlots, Record, StoreUuid};
///
/// let identity = Identity { uuid: StoreUuid([7; 16]), epoch: 1 };
/// let put = |key, slot, counter| Record::Put {
///     key,
///     slot,
///     more: MoreSlots::NONE,
///     generation: Generation::new(1, counter).unwrap(),
///     payload_len: 100,
///     payload_checksum: 0,
///     placement: 0,
///     policy: 0,
///     expiry: 0,
///     metadata: &[],
/// };
/// let mut log = LogEncoder::new(identity, 1, LogPosition::FIRST);
/// log.push(&put(b"a", 0, 1), 0);
/// log.push(&put(b"b", 1, 2), 0);
/// log.push(&put(b"c", 0, 3), 0); // evicts "a", whose slot it takes
/// log.seal(0);
///
/// let mut slots = LiveSlots::default();
/// slots.add_block(&LogBlock::decode(&log.take_sealed().bytes, &identity)?);
/// let keys: Vec<_> = slots.into_values().map(|value| value.key).collect();
/// assert_eq!(keys, [b"c".as_slice().into(), b"b".as_slice().into()]); // in the order of their slots
/// # Ok::<(), rb_format::Corruption>(())
/// ```
#[derive(Debug, Default)]
pub struct LiveSlots {
    keys: HashMap<Box<[u8]>, Newest>,
    /// The highest generation that each slot was given to.
    owners: HashMap<u32, Generation>,
}

/// The newest record of a key; `None` after a remove.
#[derive(Debug)]
struct Newest {
    generation: Generation,
    value: Option<(Vec<u32>, u32)>,
}

impl LiveSlots {
    /// Adds the bad slots that a base names. Entries put into one of them up to the end of
    /// the session that wrote the base are not live.
    pub fn add_header(&mut self, header: &BaseHeader) {
        for &slot in &header.bad_slots {
            self.take(slot, Generation::last_of(header.incarnation));
        }
    }

    /// Adds an entry of a base.
    pub fn add_entry(&mut self, entry: &BaseEntry<'_>) {
        let slots = std::iter::once(entry.slot).chain(entry.more.iter());
        self.put(
            entry.key,
            slots.collect(),
            entry.generation,
            entry.payload_len,
        );
    }

    /// Adds the records of a log block. The caller has followed the chain of blocks to this one.
    pub fn add_block(&mut self, block: &LogBlock<'_>) {
        for record in block.records() {
            match record {
                Record::Put {
                    key,
                    slot,
                    more,
                    generation,
                    payload_len,
                    ..
                } => {
                    let slots = std::iter::once(slot).chain(more.iter());
                    self.put(key, slots.collect(), generation, payload_len);
                }
                Record::Remove { key, generation } => self.newest(key, generation, None),
                Record::BadSlot { slot } => self.take(slot, Generation::last_of(block.incarnation)),
                Record::Close => {}
            }
        }
    }

    /// Returns the live values, ordered by their first slot.
    pub fn into_values(self) -> impl Iterator<Item = LiveValue> {
        let LiveSlots { keys, owners } = self;
        let mut live: Vec<LiveValue> = keys
            .into_iter()
            .filter_map(|(key, Newest { generation, value })| {
                let (slots, payload_len) = value?;
                let owned = slots
                    .iter()
                    .all(|slot| owners.get(slot) == Some(&generation));
                owned.then_some(LiveValue {
                    key,
                    slots,
                    generation,
                    payload_len,
                })
            })
            .collect();
        live.sort_by_key(|value| value.slots[0]);
        live.into_iter()
    }

    fn put(&mut self, key: &[u8], slots: Vec<u32>, generation: Generation, payload_len: u32) {
        for &slot in &slots {
            self.take(slot, generation);
        }
        self.newest(key, generation, Some((slots, payload_len)));
    }

    fn take(&mut self, slot: u32, generation: Generation) {
        let owner = self.owners.entry(slot).or_insert(generation);
        *owner = generation.max(*owner);
    }

    fn newest(&mut self, key: &[u8], generation: Generation, value: Option<(Vec<u32>, u32)>) {
        match self.keys.get_mut(key) {
            Some(newest) if newest.generation >= generation => {}
            Some(newest) => *newest = Newest { generation, value },
            None => _ = self.keys.insert(key.into(), Newest { generation, value }),
        }
    }
}
