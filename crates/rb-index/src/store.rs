//! Table, slab and key cells of one shard: finds an entry by key, adds and removes entries. Slots,
//! leases and order are handled by the shard.
//!
//! The table holds entry numbers only. A lookup makes three dependent memory accesses: table, slab
//! entry, key cell.

use crate::chunked::Chunked;
use crate::entry::Entry;
use crate::key_store::KeyStore;
use crate::lease::Located;
use crate::memory::NoMemory;
use crate::more_slots::MoreSlots;
use crate::put::NewEntry;
use crate::slots::SlotId;
use crate::table::Table;

const NONE: u32 = u32::MAX;

/// One of the three steps in which a lookup reads memory.
#[derive(Clone, Copy)]
pub(crate) enum PrefetchStage {
    Line,
    Entry,
    Key,
}

impl PrefetchStage {
    /// All, in order.
    pub(crate) const ALL: [PrefetchStage; 3] = [
        PrefetchStage::Line,
        PrefetchStage::Entry,
        PrefetchStage::Key,
    ];
}

#[derive(Debug)]
pub(crate) struct Store {
    table: Table,
    slab: Chunked<Entry>,
    first_vacant: u32,
    keys: KeyStore,
    /// True once an entry had an expiry.
    expires: bool,
}

impl Store {
    /// Creates a store with room for `expected` entries before the table grows.
    pub(crate) fn new(expected: usize) -> Result<Store, NoMemory> {
        Table::new(expected).map(Store::over)
    }

    /// Creates a store without capacity, to replace one that was taken.
    pub(crate) fn placeholder() -> Store {
        Store::over(Table::tiny())
    }

    fn over(table: Table) -> Store {
        Store {
            table,
            slab: Chunked::new(),
            first_vacant: NONE,
            keys: KeyStore::default(),
            expires: false,
        }
    }

    /// Returns the vacant entry that is used next, or a number that is not an entry.
    pub(crate) fn first_vacant(&self) -> u32 {
        self.first_vacant
    }

    /// Returns whether an entry ever had an expiry.
    pub(crate) fn may_expire(&self) -> bool {
        self.expires
    }

    /// Returns the number of entries in the table.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns the end of the entry numbers (exclusive).
    pub(crate) fn end(&self) -> u32 {
        self.slab.len()
    }

    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let is_it = |at: u32| self.slab[at].hash == hash && self.key(at) == key;
        self.table.find(spread(hash), is_it)
    }

    /// Passes the addresses that a lookup of this hash reads in one of its steps to `fetch`.
    pub(crate) fn prefetch(&self, hash: u64, step: PrefetchStage, fetch: fn(*const u8)) {
        match step {
            PrefetchStage::Line => fetch(self.table.line_address(spread(hash))),
            PrefetchStage::Entry => self.table.each_likely(spread(hash), |at| {
                let entry = std::ptr::from_ref(&self.slab[at]);
                fetch(entry.cast());
                fetch(entry.cast::<u8>().wrapping_add(size_of::<Entry>() - 1));
            }),
            PrefetchStage::Key => self.each_of_hash(hash, |entry| self.prefetch_key(entry, fetch)),
        }
    }

    /// Passes the addresses of the key and the metadata of an entry to `fetch`.
    pub(crate) fn prefetch_key(&self, entry: &Entry, fetch: fn(*const u8)) {
        let bytes = self.keys.bytes(entry.cell, entry.bytes_len());
        fetch(bytes.as_ptr());
        // The bytes may span two lines.
        fetch(bytes.as_ptr().wrapping_add(bytes.len().saturating_sub(1)));
    }

    /// Passes the entries of this hash to `each`, except those stored in a later line of the table
    /// because their own was full.
    pub(crate) fn each_of_hash(&self, hash: u64, mut each: impl FnMut(&Entry)) {
        self.table.each_likely(spread(hash), |at| {
            let entry = &self.slab[at];
            if entry.hash == hash {
                each(entry);
            }
        });
    }

    /// Adds an entry that is in the table and live. The key must not be in the table, and the
    /// lengths must be within the limits.
    pub(crate) fn add(&mut self, mut entry: Entry, key: &[u8], new: &NewEntry<'_>) -> u32 {
        entry.set_lengths(key.len(), new.metadata.len(), new.more.len());
        fill(&mut entry, new);
        self.expires |= new.expiry > 0;
        let at = self.place(entry);
        let cell = (self.keys).insert(at, new.placement, key, new.metadata, new.more);
        self.slab[at].cell = cell;
        let slab = &self.slab;
        self.table
            .insert(spread(entry.hash), at, |other| spread(slab[other].hash));
        at
    }

    /// Replaces a live entry by a later one of the same key in place, if the contents of the key
    /// cell stay the same: then neither table nor cell is touched. Returns false if they do not.
    pub(crate) fn renew(&mut self, at: u32, mut entry: Entry, new: &NewEntry<'_>) -> bool {
        let old = self.slab[at];
        let (key, metadata) = self.key_and_metadata(at);
        let placement = self.keys.placement(old.cell, old.bytes_len());
        let lists_slots = old.more_slots() > 0 || !new.more.is_empty();
        let same = metadata == new.metadata && placement == new.placement;
        if !old.is_live() || lists_slots || !same {
            return false;
        }
        entry.set_lengths(key.len(), metadata.len(), 0);
        entry.cell = old.cell;
        fill(&mut entry, new);
        self.expires |= new.expiry > 0;
        self.slab[at] = entry;
        true
    }

    /// Removes an entry from the table; its slab entry and key stay.
    pub(crate) fn unlist(&mut self, at: u32) {
        self.table.remove(spread(self.slab[at].hash), at);
    }

    /// Releases the slab entry and the key cell of an unlisted entry.
    pub(crate) fn discard(&mut self, at: u32) {
        let entry = self.slab[at];
        let slab = &mut self.slab;
        let moved = |owner: u32, cell| slab[owner].cell = cell;
        self.keys.remove(entry.cell, entry.bytes_len(), moved);
        self.slab[at] = Entry::vacant(self.first_vacant);
        self.first_vacant = at;
    }

    /// Returns an entry, vacant or not, if there is such a number.
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&Entry> {
        self.slab.get(at)
    }

    pub(crate) fn entry(&self, at: u32) -> &Entry {
        &self.slab[at]
    }

    pub(crate) fn entry_mut(&mut self, at: u32) -> &mut Entry {
        &mut self.slab[at]
    }

    pub(crate) fn key(&self, at: u32) -> &[u8] {
        self.key_and_metadata(at).0
    }

    pub(crate) fn key_and_metadata(&self, at: u32) -> (&[u8], &[u8]) {
        let entry = &self.slab[at];
        let bytes = self.keys.bytes(entry.cell, entry.bytes_len());
        bytes[..entry.named_len()].split_at(entry.key_len())
    }

    /// Returns the slots of an entry after its first.
    pub(crate) fn more(&self, at: u32) -> MoreSlots<'_> {
        let entry = &self.slab[at];
        // Most entries have none; their key cell need not be touched.
        match entry.more_slots() {
            0 => MoreSlots::default(),
            _ => {
                let bytes = self.keys.bytes(entry.cell, entry.bytes_len());
                MoreSlots::stored(&bytes[entry.named_len()..])
            }
        }
    }

    /// Returns all slots of an entry, its first one first.
    pub(crate) fn slots(&self, at: u32) -> impl Iterator<Item = SlotId> + Clone {
        std::iter::once(SlotId(self.slab[at].slot)).chain(self.more(at))
    }

    pub(crate) fn located(&self, at: u32) -> Located {
        let entry = &self.slab[at];
        Located {
            slot: SlotId(entry.slot),
            class: entry.class(),
            generation: entry.generation,
            payload_len: entry.payload_len,
            payload_checksum: u64::from(entry.payload_checksum),
            more_slots: entry.more_slots() as u8,
            placement: self.placement(at),
            expiry: entry.expiry,
            verified: entry.is_verified(),
        }
    }

    /// Returns the placement id that the entry was written with.
    pub(crate) fn placement(&self, at: u32) -> u16 {
        let entry = &self.slab[at];
        self.keys.placement(entry.cell, entry.bytes_len())
    }

    /// Returns the owner stored in the key cell of an entry: the entry itself.
    pub(crate) fn owner(&self, at: u32) -> u32 {
        let entry = &self.slab[at];
        self.keys.owner(entry.cell, entry.bytes_len())
    }

    fn place(&mut self, entry: Entry) -> u32 {
        if self.first_vacant == NONE {
            return self.slab.push(entry);
        }
        let at = self.first_vacant;
        self.first_vacant = self.slab[at].cell;
        self.slab[at] = entry;
        at
    }
}

/// Sets the properties of the value.
fn fill(entry: &mut Entry, new: &NewEntry<'_>) {
    entry.payload_len = new.payload_len;
    entry.payload_checksum = checksum_of(new);
    entry.expiry = new.expiry;
    if new.verified {
        entry.set_verified();
    }
}

/// Spreads a hash: the table picks lines by the upper half, but the top bits have already chosen
/// the shard and carry little information within it; the multiplication brings all bits there.
fn spread(hash: u64) -> u64 {
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Returns the checksum as 4 bytes: version 1 of the format has CRC32 in its 8-byte checksum
/// fields.
fn checksum_of(new: &NewEntry<'_>) -> u32 {
    debug_assert!(
        u32::try_from(new.payload_checksum).is_ok(),
        "payload checksum is not a CRC32"
    );
    new.payload_checksum as u32
}
