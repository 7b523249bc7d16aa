//! Accessors: counters, reports, layout and engine of an open store.

use std::path::Path;
use std::sync::Arc;

use rb_format::{FORMAT_BLOCK, Geometry, Superblock};
use rb_io::{Arena, Engine};

use crate::background::monitor::Monitor;
use crate::background::snapshot;
use crate::error::Error;
use crate::report::RecoveryReport;
use crate::stats::StoreStats;
use crate::store::Store;

impl Store {
    /// Counters since the store was opened; all 0 in a forked child of the process that opened it.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// let _ = (store.get(b"key")?, store.get(b"another key")?);
    /// let stats = store.stats();
    /// assert_eq!((stats.puts, stats.hits, stats.misses), (1, 1, 1));
    /// assert_eq!((stats.index.entries, stats.index.classes[0].free), (1, 15));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        if self.inner().check_process().is_err() {
            return StoreStats::default();
        }
        snapshot::take(self.inner(), self.background())
    }

    /// Adds an arena of the caller's to those of [`StoreOptions::arenas`](crate::StoreOptions::arenas): its memory is
    /// registered with the queues, which makes reads into it and writes from it cheaper. Queues that are in use
    /// register it later.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// let arena = rb_core::Arena::allocate(1 << 20)?;
    /// store.adopt(arena.clone());
    /// store.put(b"key", b"value")?;
    /// let found = store.get_many_at(&[b"key"], vec![arena.lend_exclusive(0, 4096)?]);
    /// assert!(matches!(&found[0], Ok(Some(value)) if value.len == 5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adopt(&self, arena: Arena) {
        if self.inner().check_process().is_ok() {
            self.inner().lanes.adopt(arena);
        }
    }

    /// The report of the recovery that opened the store.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// store.close()?;
    /// let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// assert!(store.recovery().clean);
    /// assert_eq!(store.recovery().entries, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner().recovery
    }

    /// The store's superblock: identity, limits, layout.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// assert_eq!(store.superblock().key_len_max, 512);
    /// assert_eq!(store.superblock().identity.epoch, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.inner().superblock
    }

    /// Slot arithmetic: classes, capacities, offsets.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// assert_eq!(store.geometry().slots(), 16);
    /// assert_eq!(store.geometry().largest_value(), 64 << 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.inner().geometry
    }

    /// The bytes on the device that a value of `len` bytes takes: its slots, with their headers.
    ///
    /// # Errors
    /// `ValueLength` if `len` is 0 or no value of the store can be so long.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// let slot = (64 << 10) + 4096;
    /// assert_eq!(store.charge(1)?, slot);
    /// assert_eq!(store.charge(100_000)?, 2 * slot);
    /// assert!(store.charge(0).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn charge(&self, len: usize) -> Result<u64, Error> {
        let (class, slots) = self.inner().slots_for(len)?;
        let slot_bytes = self.geometry().class_capacity(class) + FORMAT_BLOCK as u64;
        Ok(slots as u64 * slot_bytes)
    }

    /// The name of the engine in use.
    ///
    /// ```
    /// use rb_core::EngineKind;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// let posix = StoreOptions { engine: EngineKind::Posix, ..StoreOptions::default() };
    /// let store = Store::open_or_create(&options, posix)?;
    /// assert_eq!(store.engine_name(), "posix");
    /// assert!(store.rejected_engines().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn engine_name(&self) -> &'static str {
        self.inner().device.name()
    }

    /// The engine in use. The device stays in use as long as the caller keeps it.
    ///
    /// # Errors
    /// `Closed` if the store has released the device.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// assert!(store.engine()?.capacity_bytes() >= store.superblock().device_bytes);
    /// store.close()?;
    /// assert!(matches!(store.engine(), Err(rb_core::Error::Closed)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn engine(&self) -> Result<Arc<dyn Engine>, Error> {
        self.inner().check_process()?;
        self.inner().device.engine()
    }

    /// The path of the socket over which other processes can ask about the store.
    ///
    /// # Errors
    /// The reason why there is none.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// let session = rb_core::monitor::session(&dir.path().join("cache"))?;
    /// assert_eq!((session.process, session.stats.puts), (std::process::id(), 1));
    /// assert_eq!(store.monitor()?, session.socket);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn monitor(&self) -> Result<&Path, &str> {
        let monitor = self.background().monitor.as_ref();
        monitor.map(Monitor::path).map_err(String::as_str)
    }

    /// The engines that [`EngineKind::Auto`](crate::EngineKind::Auto) rejected, each with the reason.
    #[must_use]
    pub fn rejected_engines(&self) -> &[rb_io::Rejected] {
        &self.inner().rejected
    }

    /// The number of index shards.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// let sharded = StoreOptions { shards: Some(4), ..StoreOptions::default() };
    /// let store = Store::open_or_create(&options, sharded)?;
    /// assert_eq!(store.shards(), 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn shards(&self) -> usize {
        self.inner().index.shards()
    }

    /// Checks the accounting of the index in memory: every slot is in exactly one state, and the counters add up. To check
    /// the device see [`audit`](crate::audit()).
    ///
    /// # Errors
    /// A message with the numbers that differ: a bug of the store.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// store.audit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn audit(&self) -> Result<(), String> {
        self.inner()
            .check_process()
            .map_err(|error| error.to_string())?;
        self.inner().index.audit()
    }
}
