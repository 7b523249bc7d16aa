//! Lookups with what the caller knows of their keys.

use rb_index::Hints;
use rb_io::Loan;

use crate::error::Error;
use crate::operation::Operation;
use crate::ops::get;
use crate::ops::query::{self, Pin};
use crate::store::Store;
use crate::value::{Lookup, LookupAt};

/// The lookups of a [`Store`] with [`Hints`] for its eviction policy. Made by [`Store::hinted`].
#[derive(Clone, Copy, Debug)]
pub struct Hinted<'a> {
    store: &'a Store,
    hints: Hints,
}

impl Store {
    /// Adds what the caller knows of a batch of keys to the lookups of the batch, for the eviction policy. Puts have
    /// [`PutOptions::hints`](crate::PutOptions::hints). A caller that asks for several requests at once makes one batch
    /// for each.
    ///
    /// ```
    /// use rb_core::Hints;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// let last_turn = Hints::new().chain_ended();
    /// let values = store.hinted(last_turn).get_many(&[b"key", b"next"]);
    /// assert_eq!(values[0].as_ref().unwrap().as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn hinted(&self, hints: Hints) -> Hinted<'_> {
        Hinted { store: self, hints }
    }
}

impl Hinted<'_> {
    /// Does [`Store::get_many`].
    #[must_use]
    pub fn get_many(self, keys: &[&[u8]]) -> Vec<Lookup> {
        get::get_many(self.store.inner(), keys, self.hints)
    }

    /// Does [`Store::get_many_into`].
    ///
    /// # Panics
    /// If `keys` and `outputs` differ in length.
    pub fn get_many_into(
        self,
        keys: &[&[u8]],
        outputs: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>> {
        assert_eq!(keys.len(), outputs.len(), "one piece of memory per key");
        get::get_many_into(self.store.inner(), keys, self.hints, outputs)
    }

    /// Does [`Store::get_many_at`].
    ///
    /// # Panics
    /// If `keys` and `loans` differ in length.
    #[must_use]
    pub fn get_many_at(self, keys: &[&[u8]], loans: Vec<Loan>) -> Vec<LookupAt> {
        assert_eq!(keys.len(), loans.len(), "one loan per key");
        get::get_many_at(self.store.inner(), keys, self.hints, loans)
    }

    /// Does [`Store::get_many_async`].
    pub fn get_many_async(self, keys: &[&[u8]]) -> Operation<Vec<Lookup>> {
        let (inner, threads) = (self.store.inner(), self.store.threads());
        get::get_many_async(inner, threads, keys, self.hints, |answers| answers)
    }

    /// Does [`Store::get_many_at_async`].
    ///
    /// # Panics
    /// If `keys` and `loans` differ in length.
    pub fn get_many_at_async(self, keys: &[&[u8]], loans: Vec<Loan>) -> Operation<Vec<LookupAt>> {
        assert_eq!(keys.len(), loans.len(), "one loan per key");
        let (inner, threads) = (self.store.inner(), self.store.threads());
        get::get_many_at_async(inner, threads, keys, self.hints, loans)
    }

    /// Does [`Store::contains_many`].
    #[must_use]
    pub fn contains_many(self, keys: &[&[u8]]) -> Vec<bool> {
        query::contains_many(self.store.inner(), keys, self.hints)
    }

    /// Does [`Store::touch_many`].
    #[expect(clippy::must_use_candidate, reason = "its effect is the use")]
    pub fn touch_many(self, keys: &[&[u8]]) -> Vec<bool> {
        query::touch_many(self.store.inner(), keys, self.hints)
    }

    /// Does [`Store::lookup_and_pin`].
    #[must_use]
    pub fn lookup_and_pin(self, keys: &[&[u8]]) -> Vec<Option<Pin>> {
        query::lookup_and_pin(self.store.inner(), keys, self.hints)
    }
}
