//! Puts, gets and removes of values; each method is one call into `ops`.

use rb_index::Hints;
use rb_io::Loan;

use crate::core::pieces::buffer_bytes;
use crate::core::waits::Waits;
use crate::error::Error;
use crate::operation::Operation;
use crate::ops::get;
use crate::ops::put;
use crate::ops::put_async;
use crate::ops::put_plan::{Put, PutOutcome, PutResult};
use crate::ops::remove::{self, RemoveMode, RemoveResult, len_of};
use crate::options::PutOptions;
use crate::store::Store;
use crate::value::{Lookup, LookupAt, Value, ValueBuf};

const ONE_ANSWER: &str = "a batch has one answer for each key";

fn only<T>(mut answers: Vec<T>) -> T {
    answers.pop().expect(ONE_ANSWER)
}

/// The results of a remove as the lengths of the values that were removed.
fn lens_of(answers: Vec<RemoveResult>) -> Vec<Result<Option<u32>, Error>> {
    answers.into_iter().map(len_of).collect()
}

impl Store {
    /// Reads and verifies the value of a key. Returns `None` if the store has no entry for it, or if the entry failed
    /// verification, in which case the entry is dropped.
    ///
    /// # Errors
    /// `KeyLength`; `Io` or `TimedOut` if the read failed or was late; `Busy` or `BatchTooLarge` if there were no buffers;
    /// `Closed`.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// let value = store.get(b"key")?.expect("it was put");
    /// assert_eq!(&value[..], b"value");
    /// assert!(store.get(b"another key")?.is_none());
    /// assert!(store.get(b"").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>, Error> {
        only(self.get_many(&[key]))
    }

    /// Reads many keys in one batch. Returns one result per key, in the order of `keys`, with the errors of [`Store::get`].
    ///
    /// The values together must fit the buffer memory ([`StoreOptions::buffer_bytes`](crate::StoreOptions::buffer_bytes));
    /// [`Store::get_many_into`] has no such limit.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", &[1; 1000])?;
    /// store.put(b"b", &[2; 2000])?;
    /// let values = store.get_many(&[b"a", b"b", b"c"]);
    /// let lens: Vec<_> = values.iter().map(|v| v.as_ref().unwrap().as_ref().map(|v| v.len())).collect();
    /// assert_eq!(lens, [Some(1000), Some(2000), None]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get_many(&self, keys: &[&[u8]]) -> Vec<Lookup> {
        self.hinted(Hints::new()).get_many(keys)
    }

    /// Reads the value of a key into the caller's memory and returns its length in bytes. `output` is not changed on a
    /// miss or an error.
    ///
    /// # Errors
    /// As [`Store::get`], and `OutputTooSmall` if the value is longer than `output`.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// let mut output = [0; 8];
    /// assert_eq!(store.get_into(b"key", &mut output)?, Some(5));
    /// assert_eq!(&output, b"value\0\0\0");
    /// assert_eq!(store.get_into(b"another key", &mut output)?, None);
    /// assert!(store.get_into(b"key", &mut output[..4]).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_into(&self, key: &[u8], output: &mut [u8]) -> Result<Option<usize>, Error> {
        only(self.get_many_into(&[key], &mut [output]))
    }

    /// Reads many keys into the caller's memory, one slice per key, and returns one result per key as [`Store::get_into`].
    ///
    /// # Panics
    /// If `keys` and `outputs` differ in length.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// let mut memory = [0; 8];
    /// let (first, second) = memory.split_at_mut(4);
    /// let lens = store.get_many_into(&[b"a", b"b"], &mut [first, second]);
    /// assert!(matches!(lens[..], [Ok(Some(3)), Ok(None)]));
    /// assert_eq!(&memory, b"one\0\0\0\0\0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many_into(
        &self,
        keys: &[&[u8]],
        outputs: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>> {
        self.hinted(Hints::new()).get_many_into(keys, outputs)
    }

    /// Reads many values straight into the caller's memory, one loan per key, without a copy.
    ///
    /// The memory of a value is an exclusive loan of an [`Arena`](rb_io::Arena), usually an adopted one
    /// ([`StoreOptions::arenas`](crate::StoreOptions::arenas)), and comes back in its [`ValueAt`](crate::ValueAt). It never holds
    /// a value that failed verification: what was read there is zeroed. After a miss or an error its content is unspecified and the loan has ended, except after
    /// `TimedOut`: the device may still write to it, and the loan ends when it has done so
    /// ([`Arena::when_free`](rb_io::Arena::when_free)).
    ///
    /// Memory that does not begin at a multiple of the device's memory alignment is read into by a copy, which
    /// [`StoreStats::bytes_copied`](crate::StoreStats::bytes_copied) counts. A batch of any size needs hardly any buffers.
    ///
    /// # Errors
    /// As [`Store::get`]; `OutputTooSmall` if the value is longer than its loan, `SharedLoan`.
    ///
    /// # Panics
    /// If `keys` and `loans` differ in length.
    ///
    /// ```
    /// use rb_io::Arena;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// let arena = Arena::allocate(1 << 20)?;
    /// let with_arena = StoreOptions { arenas: vec![arena.clone()], ..StoreOptions::default() };
    /// let store = Store::open_or_create(&options, with_arena)?;
    /// store.put(b"key", &[7; 300_000])?;
    ///
    /// let loan = arena.lend_exclusive(0, 400_000)?;
    /// let value = store.get_many_at(&[b"key"], vec![loan]).remove(0)?.expect("it was put");
    /// assert_eq!(value.len, 300_000);
    /// assert_eq!(value.loan.bytes().expect("exclusive")[..value.len], [7; 300_000]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get_many_at(&self, keys: &[&[u8]], loans: Vec<Loan>) -> Vec<LookupAt> {
        self.hinted(Hints::new()).get_many_at(keys, loans)
    }

    /// Starts a read of many values into the caller's memory; see [`Store::get_many_at`]. Dropping the operation does not
    /// end the loans: the device may be writing to them.
    ///
    /// # Panics
    /// If `keys` and `loans` differ in length.
    pub fn get_many_at_async(&self, keys: &[&[u8]], loans: Vec<Loan>) -> Operation<Vec<LookupAt>> {
        self.hinted(Hints::new()).get_many_at_async(keys, loans)
    }

    /// Starts a read of many keys; the operation completes with one result per key.
    ///
    /// The call never blocks. If there are no buffers, the operation queues for them in order of arrival, and completes with
    /// `Busy` after [`StoreOptions::busy_wait`](crate::StoreOptions::busy_wait).
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// let reading = store.get_many_async(&[b"a", b"b"]);
    /// let values = reading.wait();
    /// assert_eq!(values[0].as_ref().unwrap().as_deref(), Some(&b"one"[..]));
    /// assert!(values[1].as_ref().unwrap().is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_many_async(&self, keys: &[&[u8]]) -> Operation<Vec<Lookup>> {
        self.hinted(Hints::new()).get_many_async(keys)
    }

    /// Starts a read of one key; see [`Store::get_many_async`].
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// let value = store.get_async(b"key").wait()?;
    /// assert_eq!(value.as_deref(), Some(&b"value"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_async(&self, key: &[u8]) -> Operation<Lookup> {
        get::get_many_async(self.inner(), self.threads(), &[key], Hints::new(), only)
    }

    /// Puts one value and replaces the former value of the key.
    ///
    /// # Errors
    /// See [`Error`]. The key then still has its former value, if any.
    ///
    /// ```
    /// use rb_core::PutOutcome;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// assert_eq!(store.put(b"key", b"first")?, PutOutcome::Inserted);
    /// assert_eq!(store.put(b"key", b"second")?, PutOutcome::Replaced { len: 5 });
    /// assert_eq!(store.get(b"key")?.as_deref(), Some(&b"second"[..]));
    ///
    /// // A value larger than a slot takes several, but no more than there are.
    /// store.put(b"key", &[0; 100_000])?;
    /// assert!(store.put(b"key", &vec![0; (16 * 64 << 10) + 1]).is_err());
    /// assert_eq!(store.get(b"key")?.as_deref(), Some(&[0; 100_000][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<PutOutcome, Error> {
        only(self.put_many(vec![Put::new(key, value)], PutOptions::default()))
    }

    /// Puts many values in one batch of writes. Returns one result per put, in the order of `puts`.
    ///
    /// If a key occurs more than once, one of its puts is written: the last one under `Replace`, the first one under
    /// `KeepExisting`.
    ///
    /// ```
    /// use rb_core::{Put, PutMode, PutOptions, PutOutcome};
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put_many(vec![Put::new(b"a", b"one"), Put::new(b"b", b"two")], PutOptions::default());
    ///
    /// let keep = PutOptions { mode: PutMode::KeepExisting, ..PutOptions::default() };
    /// let outcomes = store.put_many(vec![Put::new(b"b", b"2"), Put::new(b"c", b"3")], keep);
    /// assert!(matches!(outcomes[..], [Ok(PutOutcome::Existed), Ok(PutOutcome::Inserted)]));
    /// assert_eq!(store.get(b"b")?.as_deref(), Some(&b"two"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(
        clippy::must_use_candidate,
        reason = "a cache may go on without what could not be put"
    )]
    pub fn put_many(&self, puts: Vec<Put<'_>>, options: PutOptions) -> Vec<PutResult> {
        put::put_many(self.inner(), puts, options)
    }

    /// Starts a put of many values; the operation completes with one result per put.
    ///
    /// Values in the caller's memory are copied before the call returns; checksums of up to 256 KiB are computed before
    /// that. The call never blocks: it waits for neither buffers, log space nor a commit. A batch may have any size: its
    /// values are written in parts, while those of the next part are checksummed. Copies that wait for buffers may take as
    /// much as the buffer memory, or one call more than that alone; beyond that puts complete with `Busy` immediately.
    ///
    /// ```
    /// use rb_core::{Put, PutOptions};
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// let putting = store.put_many_async(vec![Put::new(b"a", b"one"), Put::new(b"b", b"two")], PutOptions::default());
    /// assert!(putting.wait().iter().all(Result::is_ok));
    /// assert_eq!(store.contains_many(&[b"a", b"b", b"c"]), [true, true, false]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_many_async(
        &self,
        puts: Vec<Put<'_>>,
        options: PutOptions,
    ) -> Operation<Vec<PutResult>> {
        put_async::put_many_async(self.inner(), self.threads(), puts, options, |answers| {
            answers
        })
    }

    /// Starts a put of one value that replaces the former one; see [`Store::put_many_async`].
    ///
    /// ```
    /// use rb_core::PutOutcome;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// let putting = store.put_async(b"key", b"value");
    /// assert_eq!(putting.wait()?, PutOutcome::Inserted);
    /// assert!(store.contains(b"key"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_async(&self, key: &[u8], value: &[u8]) -> Operation<PutResult> {
        let puts = vec![Put::new(key, value)];
        let options = PutOptions::default();
        put_async::put_many_async(self.inner(), self.threads(), puts, options, only)
    }

    /// Takes buffer memory for a value of `len` bytes, which the caller fills and puts without a copy. Its content is
    /// unspecified. Waits up to [`StoreOptions::busy_wait`](crate::StoreOptions::busy_wait) for buffers.
    ///
    /// # Errors
    /// `ValueLength` if `len` is 0 or no value of the store can be so long, `Busy` if no buffers became free.
    ///
    /// ```
    /// use rb_core::{Payload, Put, PutOptions};
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// let mut buffer = store.buffer(50_000)?;
    /// buffer.fill(7);
    /// let put = Put { payload: Payload::Buffer(buffer), ..Put::new(b"key", &[]) };
    /// assert!(store.put_many(vec![put], PutOptions::default())[0].is_ok());
    /// assert_eq!(store.stats().bytes_copied, 0);
    /// assert_eq!(store.get(b"key")?.as_deref(), Some(&[7; 50_000][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn buffer(&self, len: usize) -> Result<ValueBuf, Error> {
        let _pass = self.inner().enter()?;
        let slots = self.inner().slots_for(len)?.1;
        let mut patience = Waits::of(self.inner()).resources;
        let mut buffers = self
            .inner()
            .take_buffers(&[buffer_bytes(len, slots)], &mut patience)?;
        let buf = buffers.pop().ok_or(Error::Closed)?;
        Ok(ValueBuf::new(buf, len))
    }

    /// Removes one key. Returns the length of the removed value in bytes; `None` if the store had no entry for the key.
    ///
    /// # Errors
    /// `KeyLength`, `Busy` without log space, or a store that cannot be written: `ReadOnly`, `Poisoned`, `Closed`.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"key", b"value")?;
    /// assert_eq!(store.remove(b"key")?, Some(5));
    /// assert_eq!(store.remove(b"key")?, None);
    /// assert!(store.get(b"key")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&self, key: &[u8]) -> Result<Option<u32>, Error> {
        only(self.remove_many(&[key]))
    }

    /// Removes many keys. Returns for each key the length of the removed value in bytes, or `None` if the store had no entry
    /// for it.
    ///
    /// A leased entry disappears immediately; its slot becomes free when the last lease ends. To keep it, see
    /// [`Store::remove_many_with`].
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// let removed = store.remove_many(&[b"a", b"b"]);
    /// assert!(matches!(removed[..], [Ok(Some(3)), Ok(None)]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn remove_many(&self, keys: &[&[u8]]) -> Vec<Result<Option<u32>, Error>> {
        lens_of(self.remove_many_with(keys, RemoveMode::Always))
    }

    /// Removes many keys; `mode` decides what happens to leased entries. Whether an entry is leased is decided in the same
    /// step in which it would be removed.
    ///
    /// ```
    /// use rb_core::{RemoveMode, RemoveOutcome};
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// store.put(b"b", b"four")?;
    /// let pins = store.lookup_and_pin(&[b"a"]);
    /// let outcomes = store.remove_many_with(&[b"a", b"b", b"c"], RemoveMode::UnlessLeased);
    /// assert!(matches!(
    ///     outcomes[..],
    ///     [Ok(RemoveOutcome::Leased), Ok(RemoveOutcome::Removed { len: 4 }), Ok(RemoveOutcome::Missing)]
    /// ));
    /// assert!(store.contains(b"a"));
    /// # drop(pins);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn remove_many_with(&self, keys: &[&[u8]], mode: RemoveMode) -> Vec<RemoveResult> {
        remove::remove_many(self.inner(), keys, mode)
    }

    /// Starts a remove of many keys; the operation completes with one result per key, as [`Store::remove_many`].
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// let removed = store.remove_many_async(&[b"a", b"b"]).wait();
    /// assert!(matches!(removed[..], [Ok(Some(3)), Ok(None)]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_many_async(&self, keys: &[&[u8]]) -> Operation<Vec<Result<Option<u32>, Error>>> {
        let (inner, threads) = (self.inner(), self.threads());
        remove::remove_many_async(inner, threads, keys, RemoveMode::Always, lens_of)
    }

    /// Starts a remove of many keys, as [`Store::remove_many_with`].
    ///
    /// ```
    /// use rb_core::{RemoveMode, RemoveOutcome};
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// store.put(b"a", b"one")?;
    /// let removing = store.remove_many_with_async(&[b"a"], RemoveMode::UnlessLeased);
    /// assert!(matches!(removing.wait()[..], [Ok(RemoveOutcome::Removed { len: 3 })]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_many_with_async(
        &self,
        keys: &[&[u8]],
        mode: RemoveMode,
    ) -> Operation<Vec<RemoveResult>> {
        remove::remove_many_async(self.inner(), self.threads(), keys, mode, |answers| answers)
    }
}
