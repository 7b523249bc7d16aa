//! Values: get, put, remove, each one line into its own room.

use crate::core::waits::Waits;
use crate::error::Error;
use crate::operation::Operation;
use crate::ops::get;
use crate::ops::put;
use crate::ops::put_async;
use crate::ops::put_plan::{Put, PutOutcome, PutResult};
use crate::ops::remove;
use crate::options::PutOptions;
use crate::store::Store;
use crate::value::{Lookup, Value, ValueBuf};

/// What every batch call holds to.
const ONE_ANSWER: &str = "a batch has one answer for each key";

fn only<T>(mut answers: Vec<T>) -> T {
    answers.pop().expect(ONE_ANSWER)
}

impl Store {
    /// Looks up one key: the value, or none if the key is not there.
    ///
    /// # Errors
    /// A bad key; a failed or late request; buffers that stayed in use; a closed store.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>, Error> {
        only(get::get_many(self.inner(), &[key]))
    }

    /// Looks up many keys in one batch of reads; answers in the order of `keys`. The values
    /// together must fit the buffer memory; [`Store::get_many_into`] has no such limit.
    #[must_use]
    pub fn get_many(&self, keys: &[&[u8]]) -> Vec<Lookup> {
        get::get_many(self.inner(), keys)
    }

    /// Looks up one key into the caller's memory; answers the value's length. On a miss, an error
    /// or too little memory (`OutputTooSmall`), `output` is not changed.
    ///
    /// # Errors
    /// As [`Store::get`].
    pub fn get_into(&self, key: &[u8], output: &mut [u8]) -> Result<Option<usize>, Error> {
        only(get::get_many_into(self.inner(), &[key], &mut [output]))
    }

    /// Looks up many keys into the caller's memory, one piece per key.
    ///
    /// # Panics
    /// If `outputs` has not one piece per key.
    pub fn get_many_into(
        &self,
        keys: &[&[u8]],
        outputs: &mut [&mut [u8]],
    ) -> Vec<Result<Option<usize>, Error>> {
        assert_eq!(keys.len(), outputs.len(), "one piece of memory per key");
        get::get_many_into(self.inner(), keys, outputs)
    }

    /// Starts looking up many keys. The operation can be waited on or awaited. The call waits for nothing: where there are no
    /// buffers, the operation waits in order, and is answered with `Busy` after [`StoreOptions::busy_wait`](crate::StoreOptions::busy_wait).
    pub fn get_many_async(&self, keys: &[&[u8]]) -> Operation<Vec<Lookup>> {
        get::get_many_async(self.inner(), self.threads(), keys, |answers| answers)
    }

    /// Starts looking up one key; see [`Store::get_many_async`].
    pub fn get_async(&self, key: &[u8]) -> Operation<Lookup> {
        get::get_many_async(self.inner(), self.threads(), &[key], only)
    }

    /// Puts one value, replacing what is there.
    ///
    /// # Errors
    /// See [`Error`]; the value is then not there, and what was there still is.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<PutOutcome, Error> {
        only(self.put_many(vec![Put::new(key, value)], PutOptions::default()))
    }

    /// Puts many values in one batch of writes; answers in the order of `puts`.
    #[expect(
        clippy::must_use_candidate,
        reason = "a cache may go on without what could not be put"
    )]
    pub fn put_many(&self, puts: Vec<Put<'_>>, options: PutOptions) -> Vec<PutResult> {
        put::put_many(self.inner(), puts, options)
    }

    /// Starts putting many values. Values in the caller's memory are copied before this returns, and their checksums
    /// are computed before that up to 256 KiB. The call waits for nothing: neither buffers, log space nor a commit. A batch may take half the buffer memory, and
    /// copies that wait for buffers as much as there is of those; beyond that the answers are `Busy` at once.
    pub fn put_many_async(
        &self,
        puts: Vec<Put<'_>>,
        options: PutOptions,
    ) -> Operation<Vec<PutResult>> {
        put_async::put_many_async(self.inner(), self.threads(), puts, options, |answers| {
            answers
        })
    }

    /// Starts putting one value, replacing what is there; see [`Store::put_many_async`].
    pub fn put_async(&self, key: &[u8], value: &[u8]) -> Operation<PutResult> {
        let puts = vec![Put::new(key, value)];
        let options = PutOptions::default();
        put_async::put_many_async(self.inner(), self.threads(), puts, options, only)
    }

    /// Memory for a value of `len` bytes, to be filled and put without a copy. Its content is
    /// unspecified. Waits a bounded time for buffers.
    ///
    /// # Errors
    /// `ValueLength` for 0 or more than the largest slot, `Busy` when no buffers came free.
    pub fn buffer(&self, len: usize) -> Result<ValueBuf, Error> {
        let _pass = self.inner().enter()?;
        let max = self.inner().geometry.largest_value() as usize;
        if len == 0 || len > max {
            return Err(Error::ValueLength { len, max });
        }
        let mut patience = Waits::of(self.inner()).resources;
        let mut buffers = self
            .inner()
            .take_buffers(&[ValueBuf::stride(len)], &mut patience)?;
        let buf = buffers.pop().ok_or(Error::Closed)?;
        Ok(ValueBuf::new(buf, len))
    }

    /// Removes one key; whether it was there.
    ///
    /// # Errors
    /// A bad key, or a store that cannot be written.
    pub fn remove(&self, key: &[u8]) -> Result<bool, Error> {
        only(self.remove_many(&[key]))
    }

    /// Removes many keys; answers for each whether it was there. An entry under a lease is gone at
    /// once; its slot is free when the lease ends.
    #[must_use]
    pub fn remove_many(&self, keys: &[&[u8]]) -> Vec<Result<bool, Error>> {
        remove::remove_many(self.inner(), keys)
    }

    /// Starts removing many keys. The operation can be waited on or awaited.
    pub fn remove_many_async(&self, keys: &[&[u8]]) -> Operation<Vec<Result<bool, Error>>> {
        remove::remove_many_async(self.inner(), self.threads(), keys)
    }
}
