//! One live value in 48 bytes.

/// The longest key in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The longest metadata in bytes.
pub const MAX_METADATA_BYTES: usize = 256;

// info: | class 6 | flags 6 | metadata length 9 | key length 11 |
const KEY_BITS: u32 = 11;
const METADATA_BITS: u32 = 9;
const METADATA_SHIFT: u32 = KEY_BITS;
const CLASS_SHIFT: u32 = 26;
/// The largest number of slots of one value.
pub const MAX_VALUE_SLOTS: usize = 256;
/// Bytes of one further slot in the key cell.
const SLOT_BYTES: usize = size_of::<u32>();
/// Number of classes that an entry can name.
pub(crate) const CLASS_LIMIT: usize = 1 << (u32::BITS - CLASS_SHIFT);

const LIVE: u32 = 1 << 20;
/// In a shard: removed from the table, kept by leases. In a loader: a tombstone.
const RETIRED: u32 = 1 << 21;
const PROVEN: u32 = 1 << 22;
const LEASED: u32 = 1 << 23;
/// The entry's record may not be durable.
const VOLATILE: u32 = 1 << 24;

const _: () = {
    assert!(MAX_KEY_BYTES < 1 << KEY_BITS);
    assert!(MAX_METADATA_BYTES < 1 << METADATA_BITS);
    assert!(KEY_BITS + METADATA_BITS == 20);
    // The memory goal relies on this; `tests::memory` sums up the rest.
    assert!(size_of::<Entry>() == 48);
};

/// A slab entry. Rarely read data (the placement id) is in the key cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) hash: u64,
    pub(crate) generation: u64,
    pub(crate) slot: u32,
    pub(crate) payload_len: u32,
    pub(crate) payload_checksum: u32,
    /// The recency stamp or, while leased, the number of leases: a leased entry is in use now, so
    /// its stamp would mean nothing.
    stamp: u32,
    /// The key cell; in a vacant entry the number of the next vacant one.
    pub(crate) cell: u32,
    info: u32,
    /// Expiry time as the caller counts it; 0 for never.
    pub(crate) expiry: u32,
    /// Number of slots after the first; their list is in the key cell.
    more: u8,
}

impl Entry {
    pub(crate) fn live(hash: u64, generation: u64, slot: u32, class: u8) -> Entry {
        Entry {
            hash,
            generation,
            slot,
            payload_len: 0,
            payload_checksum: 0,
            stamp: 0,
            cell: 0,
            info: LIVE | u32::from(class) << CLASS_SHIFT,
            expiry: 0,
            more: 0,
        }
    }

    pub(crate) fn vacant(next: u32) -> Entry {
        let mut entry = Entry::live(0, 0, u32::MAX, 0);
        entry.info = 0;
        entry.cell = next;
        entry
    }

    /// Sets the lengths of the key cell's contents. The caller has checked them against the limits.
    pub(crate) fn set_lengths(&mut self, key: usize, metadata: usize, more_slots: usize) {
        self.info |= key as u32 | (metadata as u32) << METADATA_SHIFT;
        self.more = more_slots as u8;
    }

    /// Returns the number of slots after the first.
    pub(crate) fn more_slots(&self) -> usize {
        usize::from(self.more)
    }

    /// Returns the number of slots.
    pub(crate) fn slots(&self) -> u64 {
        u64::from(self.more) + 1
    }

    pub(crate) fn key_len(&self) -> usize {
        (self.info & ((1 << KEY_BITS) - 1)) as usize
    }

    /// Returns the number of key and metadata bytes together.
    pub(crate) fn named_len(&self) -> usize {
        self.key_len() + (self.info >> METADATA_SHIFT & ((1 << METADATA_BITS) - 1)) as usize
    }

    /// Returns the number of bytes in the key cell: key, metadata and the list of further slots.
    pub(crate) fn bytes_len(&self) -> usize {
        self.named_len() + self.more_slots() * SLOT_BYTES
    }

    pub(crate) fn class(&self) -> u8 {
        (self.info >> CLASS_SHIFT) as u8
    }

    pub(crate) fn is_live(&self) -> bool {
        self.info & LIVE != 0
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.info & RETIRED != 0
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.info & (LIVE | RETIRED) == 0
    }

    /// Returns whether it may be evicted for class `class`, which must be its own.
    pub(crate) fn is_evictable(&self, class: u8) -> bool {
        self.is_live() && self.leases() == 0 && self.class() == class
    }

    pub(crate) fn is_verified(&self) -> bool {
        self.info & PROVEN != 0
    }

    pub(crate) fn set_verified(&mut self) {
        self.info |= PROVEN;
    }

    pub(crate) fn is_volatile(&self) -> bool {
        self.info & VOLATILE != 0
    }

    pub(crate) fn set_volatile(&mut self, volatile: bool) {
        self.info = if volatile {
            self.info | VOLATILE
        } else {
            self.info & !VOLATILE
        };
    }

    pub(crate) fn retire(&mut self) {
        self.info = self.info & !LIVE | RETIRED;
    }

    pub(crate) fn leases(&self) -> u32 {
        if self.info & LEASED != 0 {
            self.stamp
        } else {
            0
        }
    }

    /// Adds a lease; returns whether it is the first.
    pub(crate) fn add_lease(&mut self) -> bool {
        let first = self.info & LEASED == 0;
        self.stamp = if first {
            1
        } else {
            self.stamp.saturating_add(1)
        };
        self.info |= LEASED;
        first
    }

    /// Ends a lease; returns whether it was the last, in which case `now` becomes the stamp.
    pub(crate) fn end_lease(&mut self, now: u32) -> bool {
        self.stamp = self.stamp.saturating_sub(1);
        if self.stamp > 0 {
            return false;
        }
        self.info &= !LEASED;
        self.stamp = now;
        true
    }

    /// Returns the stamp of the last use; `now` if leased.
    pub(crate) fn recency(&self, now: u32) -> u32 {
        if self.info & LEASED != 0 {
            now
        } else {
            self.stamp
        }
    }

    /// Stamps an entry that is not leased; a leased one is stamped when the last lease ends.
    pub(crate) fn stamp(&mut self, now: u32) {
        if self.info & LEASED == 0 {
            self.stamp = now;
        }
    }
}
