//! Queries that the index serves without I/O.

use rb_index::Hints;

use crate::ops::list::{self, ListCursor};
use crate::ops::query::{self, EntryInfo, Pin};
use crate::store::Store;

impl Store {
    /// Returns true if the store has an entry for the key. Reads nothing and does not change recency.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// assert!(store.contains(b"key") && !store.contains(b"another key"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.contains_many(&[key]) == [true]
    }

    /// Returns for each key true if the store has an entry for it; all false if the store is closed.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// assert_eq!(store.contains_many(&[b"a", b"b"]), [true, false]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn contains_many(&self, keys: &[&[u8]]) -> Vec<bool> {
        self.hinted(Hints::new()).contains_many(keys)
    }

    /// Returns the length of each value in bytes; `None` for a key without an entry, and for all if the store is closed.
    ///
    /// Unlike [`Store::contains_many`], it does not count as a lookup: the eviction policy does not see it. It is for
    /// programs that keep their own account of what the store has.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// assert_eq!(store.lengths_of_many(&[b"a", b"b"]), [Some(3), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lengths_of_many(&self, keys: &[&[u8]]) -> Vec<Option<usize>> {
        query::lengths_of_many(self.inner(), keys)
    }

    /// The number of leading keys that have an entry, up to the first key without one.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// store.put(b"c", b"three")?;
    /// assert_eq!(store.longest_prefix(&[b"a", b"b", b"c"]), 1);
    /// assert_eq!(store.longest_prefix(&[b"b", b"c"]), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn longest_prefix(&self, keys: &[&[u8]]) -> usize {
        self.contains_many(keys)
            .iter()
            .take_while(|found| **found)
            .count()
    }

    /// Marks keys as recently used, the first key of the batch as the most recent one. Returns for each key true if it has
    /// an entry.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// for number in 0..16 {
    ///     store.put(&[number], b"value")?;
    /// }
    /// assert_eq!(store.touch_many(&[&[0], b"another key"]), [true, false]);
    /// // All 16 slots are in use: the next put evicts the least recently used entry, which is now 1.
    /// store.put(&[16], b"value")?;
    /// assert_eq!(store.contains_many(&[&[0], &[1]]), [true, false]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(clippy::must_use_candidate, reason = "its effect is the use")]
    pub fn touch_many(&self, keys: &[&[u8]]) -> Vec<bool> {
        self.hinted(Hints::new()).touch_many(keys)
    }

    /// Pins the entry of each key, `None` where there is none. The slot of a pinned entry is neither evicted nor reused until
    /// every pin on it was passed to [`Store::unpin`] or dropped. A remove or a replacing put still succeeds.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"pinned", b"value")?;
    /// let pins = store.lookup_and_pin(&[b"pinned", b"another key"]);
    /// assert!(pins[0].is_some() && pins[1].is_none());
    /// for number in 0..16 {
    ///     store.put(&[number], b"value")?;
    /// }
    /// // 17 values, 16 slots: the second oldest entry was evicted.
    /// assert_eq!(store.contains_many(&[b"pinned", &[0]]), [true, false]);
    /// store.unpin(pins.into_iter().flatten().collect());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn lookup_and_pin(&self, keys: &[&[u8]]) -> Vec<Option<Pin>> {
        self.hinted(Hints::new()).lookup_and_pin(keys)
    }

    /// Releases pins in one batch; the first one becomes the most recently used. A pin of another store releases itself.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// let pins = store.lookup_and_pin(&[b"key"]);
    /// store.remove(b"key")?;
    /// // The slot is retired while the pin lasts.
    /// assert_eq!(store.stats().index.classes[0].retired, 1);
    /// store.unpin(pins.into_iter().flatten().collect());
    /// assert_eq!(store.stats().index.classes[0].retired, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unpin(&self, pins: Vec<Pin>) {
        query::unpin(self.inner(), pins);
    }

    /// Calls `visit` for every live entry, in no particular order and with no lock held, until it returns false. Entries that
    /// are added or dropped concurrently may or may not be visited.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// store.put(b"b", b"four")?;
    /// let mut lens = Vec::new();
    /// store.for_each(|entry| {
    ///     lens.push((entry.key.to_vec(), entry.len));
    ///     true
    /// });
    /// lens.sort();
    /// assert_eq!(lens, [(b"a".to_vec(), 3), (b"b".to_vec(), 4)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn for_each(&self, mut visit: impl FnMut(EntryInfo) -> bool) {
        query::for_each(self.inner(), &mut visit);
    }

    /// Lists the live entries in pages of at most `limit`, at least 1. The first page is `from` a
    /// [`ListOrder`](crate::ListOrder), each further one from the cursor returned with the page before. The listing ends with
    /// the page that has no cursor; that page may be empty. If the store is closed, the page is empty and the last one.
    ///
    /// An entry that is live throughout is listed exactly once. An entry that is added or dropped concurrently may or may
    /// not be listed, and a key that is replaced may be listed with both of its values. Values put during the listing are
    /// the newest: with `OldestFirst` they appear at its end, with `NewestFirst` they do not.
    ///
    /// A page in the order of age scans the whole index, under the lock of a shard for 256 entries at a time, and keeps at
    /// most `limit` entries in memory. A listing of everything should use long pages, or no order.
    ///
    /// ```
    /// use rb_core::ListOrder;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// for name in ["a", "b", "c"] {
    ///     store.put(name.as_bytes(), b"value")?;
    /// }
    /// let (page, next) = store.list(ListOrder::OldestFirst, 2);
    /// assert!(*page[0].key == *b"a" && *page[1].key == *b"b");
    /// let (page, next) = store.list(next.expect("there is more"), 2);
    /// assert!(*page[0].key == *b"c" && next.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(
        &self,
        from: impl Into<ListCursor>,
        limit: usize,
    ) -> (Vec<EntryInfo>, Option<ListCursor>) {
        list::list(self.inner(), from.into(), limit)
    }
}
