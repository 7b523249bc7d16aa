//! Step 1 of a put: validates the batch and folds duplicate keys.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use rb_index::{Place, PutMode};
use rb_io::{Buffer, Loan, Patience};

use crate::core::expiry;
use crate::core::inner::Inner;
use crate::core::pieces::{buffer_bytes, direct_write_bytes};
use crate::counters::add;
use crate::error::Error;
use crate::options::{Lifetime, PutOptions};
use crate::simulator::SwitchPoint;
use crate::value::ValueBuf;

/// A value to put.
#[derive(Debug)]
pub struct Put<'a> {
    /// The key, from 1 byte to the store's `key_len_max`.
    pub key: &'a [u8],
    /// The value.
    pub payload: Payload<'a>,
    /// Opaque bytes stored with the value and kept in memory, up to the store's `metadata_len_max`.
    pub metadata: &'a [u8],
    /// The time from which the value is a miss; `None` for never. See [`Put::with_expiry`].
    pub expires: Option<SystemTime>,
}

impl<'a> Put<'a> {
    /// A put of a value in the caller's memory, without metadata, that never expires.
    #[must_use]
    pub fn new(key: &'a [u8], value: &'a [u8]) -> Put<'a> {
        Put {
            key,
            payload: Payload::Bytes(value),
            metadata: &[],
            expires: None,
        }
    }

    /// Adds `metadata`, which the store keeps in memory and returns with every get.
    ///
    /// ```
    /// let put = rb_core::Put::new(b"key", b"value").with_metadata(b"bf16");
    /// assert_eq!((put.key, put.metadata), (&b"key"[..], &b"bf16"[..]));
    /// ```
    #[must_use]
    pub fn with_metadata(self, metadata: &'a [u8]) -> Put<'a> {
        Put { metadata, ..self }
    }

    /// Lets the value expire: from that time on it is a miss, also after a restart. The store rounds
    /// the time up to a whole second; one that is more than 136 years after the format of the store
    /// becomes 136 years. A put whose time is over fails with [`Error::Expiry`].
    ///
    /// An expired entry keeps its slots until an operation looks it up, which drops it
    /// ([`DropReason::Expired`](crate::DropReason::Expired)), or until it is removed, replaced or
    /// evicted. The time is that of [`Clock::wall`](crate::Clock::wall).
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use rb_core::{Put, PutOptions};
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// let clock = std::sync::Arc::new(rb_core::ManualClock::new());
    /// clock.set_wall(SystemTime::now());
    /// let with_clock = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
    /// let store = Store::open_or_create(&options, with_clock)?;
    /// let hour = Duration::from_secs(3600);
    /// let put = Put::new(b"key", b"value").with_expiry(SystemTime::now() + hour);
    /// assert!(store.put_many(vec![put], PutOptions::default())[0].is_ok());
    /// assert!(store.contains(b"key"));
    /// clock.advance(2 * hour);
    /// assert!(store.get(b"key")?.is_none());
    /// assert_eq!(store.stats().expired, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_expiry(self, time: SystemTime) -> Put<'a> {
        Put {
            expires: Some(time),
            ..self
        }
    }
}

/// Location of a value to put.
#[derive(Debug)]
pub enum Payload<'a> {
    /// In the caller's memory; copied once.
    Bytes(&'a [u8]),
    /// Owned by the put; copied once.
    Owned(Vec<u8>),
    /// In a buffer of the store; not copied.
    Buffer(ValueBuf),
    /// In memory lent by the caller, all of it. From [`StoreOptions::direct_min`](crate::StoreOptions::direct_min) bytes up
    /// it is written straight from there if it begins at a multiple of the device's memory alignment; otherwise it is
    /// copied. The loan ends when the write has ended, which after `TimedOut` is later than the result.
    Loan(Loan),
}

impl Payload<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Payload::Bytes(bytes) => bytes.len(),
            Payload::Owned(bytes) => bytes.len(),
            Payload::Buffer(buffer) => buffer.len(),
            Payload::Loan(loan) => loan.len(),
        }
    }
}

/// Outcome of a successful put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutOutcome {
    /// The value was written, and the key had no entry.
    Inserted,
    /// The value was written in place of another one.
    Replaced {
        /// Length of the former value in bytes.
        len: u32,
    },
    /// The key existed and the put mode kept it.
    Existed,
    /// A later put or remove of the key, possibly of the same batch, took its place. That put may have been refused.
    Superseded,
    /// The value was not written, because the eviction policy holds it to be worth less than what it would replace, or
    /// because nothing is left of the write budget. The key had no entry. With [`PutMode::Replace`] this is a change of the
    /// key like a remove, with a record if a former value could return: one that was evicted, or removed, does not return
    /// after a crash once this result is durable. With [`PutMode::KeepExisting`] the put has no effect at all, and an evicted
    /// value may return.
    NotAdmitted,
}

impl PutOutcome {
    /// Returns true if the value was written.
    ///
    /// ```
    /// use rb_core::PutOutcome;
    ///
    /// assert!(PutOutcome::Inserted.is_written());
    /// assert!(!PutOutcome::Existed.is_written());
    /// ```
    #[must_use]
    pub fn is_written(self) -> bool {
        matches!(self, PutOutcome::Inserted | PutOutcome::Replaced { .. })
    }
}

/// The result for one key.
pub type PutResult = Result<PutOutcome, Error>;

/// Results of a batch of writes.
#[derive(Default)]
pub(crate) struct PutAnswers {
    pub(crate) answers: Vec<(usize, PutResult)>,
    /// Once this ticket is durable, so are these puts and everything their results refer to.
    pub(crate) ticket: u64,
}

/// A validated put that has not started.
pub(crate) struct PlannedPut<'a> {
    pub(crate) at: usize,
    pub(crate) hash: u64,
    pub(crate) shard: usize,
    pub(crate) class: u8,
    /// Number of slots that the value takes, all of `class`.
    pub(crate) slots: usize,
    /// Position in the batch's recency order.
    pub(crate) place: Place,
    /// Number of the placement id to write with; 0 for none.
    pub(crate) placement: u16,
    pub(crate) key: Cow<'a, [u8]>,
    pub(crate) metadata: Cow<'a, [u8]>,
    /// In seconds since format, as stored on the device; 0 for never.
    pub(crate) expiry: u32,
    pub(crate) payload: Payload<'a>,
    /// True if the payload is a loan and written straight from there.
    pub(crate) direct: bool,
    /// Its buffer, if it has been taken already.
    pub(crate) buffer: Option<Buffer>,
    /// The length of its value, if the write budget has refused it. Then it has no payload, and leaves a record at most.
    pub(crate) refused: Option<usize>,
    /// True if its key had an entry before the batch began. An earlier part may have evicted that since, but the put is not
    /// refused: the caller would have neither value.
    pub(crate) had_entry: bool,
}

impl PlannedPut<'_> {
    /// Buffer bytes the put needs.
    pub(crate) fn stride(&self) -> usize {
        match self.direct {
            _ if self.refused.is_some() => 0,
            true => direct_write_bytes(self.payload.len(), self.slots),
            false => buffer_bytes(self.payload.len(), self.slots),
        }
    }

    /// Returns whether the put needs a buffer that it does not have.
    pub(crate) fn needs_buffer(&self) -> bool {
        let has_one = self.buffer.is_some() || matches!(self.payload, Payload::Buffer(_));
        !has_one && self.refused.is_none()
    }

    /// Gives up the value: the write budget has refused it.
    pub(crate) fn refuse(&mut self) {
        self.refused = Some(self.payload.len());
        self.payload = Payload::Bytes(&[]);
        self.metadata = Cow::Borrowed(&[]);
    }

    /// Moves everything out of the caller's memory: the value into `buffer`, or to the heap if
    /// there is none. Values that own their memory or its loan are copied when they are sealed.
    pub(crate) fn into_owned(self, inner: &Inner, buffer: Option<Buffer>) -> PlannedPut<'static> {
        let (payload, buffer) = match (self.payload, self.buffer.or(buffer)) {
            (Payload::Bytes(bytes), Some(buffer)) => {
                let mut memory = ValueBuf::new(buffer, bytes.len());
                memory.copy_from_slice(bytes);
                add(&inner.counters.bytes_copied, bytes.len());
                (Payload::Buffer(memory), None)
            }
            (Payload::Bytes(bytes), None) => (Payload::Owned(bytes.to_vec()), None),
            (Payload::Owned(bytes), buffer) => (Payload::Owned(bytes), buffer),
            (Payload::Loan(loan), buffer) => (Payload::Loan(loan), buffer),
            (Payload::Buffer(memory), buffer) => (Payload::Buffer(memory), buffer),
        };
        PlannedPut {
            at: self.at,
            hash: self.hash,
            shard: self.shard,
            class: self.class,
            slots: self.slots,
            place: self.place,
            placement: self.placement,
            key: Cow::Owned(self.key.into_owned()),
            metadata: Cow::Owned(self.metadata.into_owned()),
            expiry: self.expiry,
            direct: self.direct,
            refused: self.refused,
            had_entry: self.had_entry,
            buffer,
            payload,
        }
    }
}

/// Takes buffers for the values that are not in one, all or none; returns them in order.
pub(crate) fn take_buffers(
    inner: &Inner,
    planned: &[PlannedPut<'_>],
    patience: &mut Patience,
) -> Result<Vec<Buffer>, Error> {
    let copied = planned.iter().filter(|planned| planned.needs_buffer());
    let strides: Vec<usize> = copied.map(PlannedPut::stride).collect();
    inner.take_buffers(&strides, patience)
}

/// A validated batch.
pub(crate) struct Plan<'a> {
    pub(crate) planned: Vec<PlannedPut<'a>>,
    pub(crate) answers: Vec<PutResult>,
    /// Puts of a key that another put of the batch writes: their position and that put's.
    pub(crate) followers: Vec<(usize, usize)>,
}

/// A batch that may begin, part by part.
pub(crate) struct Parts<'a> {
    pub(crate) parts: Vec<Vec<PlannedPut<'a>>>,
    pub(crate) answers: Vec<PutResult>,
    pub(crate) followers: Vec<(usize, usize)>,
    /// Position and bytes of each put that the write budget has paid; empty without one.
    pub(crate) paid: Vec<(usize, u64)>,
}

/// The end of a batch's admission, for all its parts: the least position in the batch of a key that the policy has refused.
#[derive(Debug)]
pub(crate) struct Ended(AtomicUsize);

impl Default for Ended {
    fn default() -> Self {
        Ended(AtomicUsize::new(usize::MAX))
    }
}

impl Ended {
    /// The position from which on keys without entries are refused.
    pub(crate) fn get(&self) -> usize {
        // Parts that race are judged one by one: it only spares what follows a refusal.
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, at: usize) {
        self.0.fetch_min(at, Ordering::Relaxed);
    }
}

/// Completes the results of the followers: if the put that stands for them failed or was not
/// admitted, they have its result, because nothing of the key was written.
pub(crate) fn settle(answers: &mut [PutResult], followers: &[(usize, usize)]) {
    for &(follower, writer) in followers {
        if let result @ (Err(_) | Ok(PutOutcome::NotAdmitted)) = answers[writer].clone() {
            answers[follower] = result;
        }
    }
}

/// Step 1. Of several puts of one key in a batch only one is written: the last with `Replace`, the
/// first with `KeepExisting`. The others get `Superseded` or `Existed`.
pub(crate) fn plan<'a>(inner: &Inner, puts: Vec<Put<'a>>, options: PutOptions) -> Plan<'a> {
    // First pass: validate, and choose the put that is written for each key.
    let batch = inner
        .index
        .begin_batch(puts.len())
        .with_hints(options.hints);
    let mut answers = Vec::with_capacity(puts.len());
    let mut writers: HashMap<&'a [u8], usize> = HashMap::with_capacity(puts.len());
    let mut valid = Vec::with_capacity(puts.len());
    for (at, put) in puts.into_iter().enumerate() {
        match check(inner, &put, options) {
            Err(error) => answers.push(Err(error)),
            Ok(checked) => {
                match options.mode {
                    PutMode::Replace => drop(writers.insert(put.key, at)),
                    PutMode::KeepExisting => drop(writers.entry(put.key).or_insert(at)),
                }
                // Until the put is done.
                answers.push(Ok(PutOutcome::Inserted));
                valid.push((at, checked, put));
            }
        }
    }
    // Second pass: plan the chosen puts; the others follow them.
    let mut planned = Vec::with_capacity(valid.len());
    let mut followers = Vec::new();
    for (
        at,
        Checked {
            class,
            slots,
            expiry,
        },
        put,
    ) in valid
    {
        let writer = writers.get(put.key).copied().unwrap_or(at);
        if writer == at {
            let hash = inner.hash(put.key);
            let shard = inner.index.shard_of(hash);
            planned.push(PlannedPut {
                at,
                hash,
                shard,
                class,
                slots,
                place: batch.at(at),
                placement: inner.placement_of(options.lifetime, class, hash),
                key: put.key.into(),
                metadata: put.metadata.into(),
                expiry,
                direct: match &put.payload {
                    Payload::Loan(loan) => inner.direct.writes_from(loan),
                    _ => false,
                },
                buffer: None,
                refused: None,
                had_entry: false,
                payload: put.payload,
            });
        } else {
            followers.push((at, writer));
            answers[at] = Ok(match options.mode {
                PutMode::Replace => PutOutcome::Superseded,
                PutMode::KeepExisting => PutOutcome::Existed,
            });
        }
    }
    let hashes: Vec<u64> = planned.iter().map(|put| put.hash).collect();
    inner.prefetch(&hashes);
    inner.switch(SwitchPoint::PutPlanned);
    Plan {
        planned,
        answers,
        followers,
    }
}

/// Class, slots and expiry of a validated put.
struct Checked {
    class: u8,
    slots: usize,
    expiry: u32,
}

/// Validates a put (C9).
fn check(inner: &Inner, put: &Put<'_>, options: PutOptions) -> Result<Checked, Error> {
    inner.check_key(put.key)?;
    let max = inner.superblock.metadata_len_max as usize;
    if put.metadata.len() > max {
        return Err(Error::MetadataLength {
            len: put.metadata.len(),
            max,
        });
    }
    let classes = inner.options.placement.lifetimes.len();
    if let Some(Lifetime(class)) = options.lifetime
        && classes > 0
        && usize::from(class) >= classes
    {
        return Err(Error::Lifetime { class, classes });
    }
    let (class, slots) = inner.slots_for(put.payload.len())?;
    Ok(Checked {
        class,
        slots,
        expiry: expiry::stored(inner, put.expires)?,
    })
}
