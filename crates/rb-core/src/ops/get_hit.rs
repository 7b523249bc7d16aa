//! One hit of a get: where its value goes, its read, and the verification of what arrives.

use rb_format::FORMAT_BLOCK;
use rb_index::Lease;
use rb_io::{Buffer, Completion, Loan, Request};

use crate::core::inner::Inner;
use crate::core::pieces::{
    SlotIds, buffer_bytes, direct_read_bytes, direct_read_request, read_request, tail_len,
};
use crate::core::verify::{header_matches, payload_matches};
use crate::counters::add;
use crate::error::Error;
use crate::value::{Value, ValueAt};

/// A hit: leased in the index, to be read and verified.
pub(crate) struct PendingGet {
    /// Position of the key in the call.
    pub(crate) at: usize,
    pub(crate) lease: Lease,
    /// The slots of the value.
    pub(crate) slots: SlotIds,
    pub(crate) shard: usize,
    pub(crate) key: Box<[u8]>,
    pub(crate) metadata: Box<[u8]>,
    /// True if the header is read and checked, too.
    pub(crate) whole: bool,
    pub(crate) target: Target,
    pub(crate) read: Read,
    /// True if it failed verification once and is read again.
    pub(crate) refuted: bool,
}

/// State of the read of a hit.
pub(crate) enum Read {
    /// No completion yet.
    Open,
    /// The bytes match the entry; they are in this buffer, or in the target's memory.
    Verified(Option<Buffer>),
    /// The bytes do not match the entry.
    Refuted,
    /// The device refused the caller's memory; the value is read again and copied.
    NoAccess,
    Failed(Error),
}

/// A value that was found.
pub(crate) enum Found {
    Value(Value),
    At(ValueAt),
}

/// The result for one key.
pub(crate) type Answer = Result<Option<Found>, Error>;

impl PendingGet {
    /// Buffer bytes the read needs.
    pub(crate) fn stride(&self) -> usize {
        let len = self.len();
        match self.target {
            Target::Direct(_) => direct_read_bytes(len, self.whole),
            Target::Buffer | Target::Copied(_) => buffer_bytes(len, self.slots.len()),
        }
    }

    fn len(&self) -> usize {
        self.lease.located().payload_len as usize
    }

    /// Step 2: the device ranges and their memory.
    pub(crate) fn request(&mut self, inner: &Inner, buf: Option<Buffer>) -> Request {
        let (geometry, len) = (&inner.geometry, self.len());
        match &mut self.target {
            Target::Direct(loan) => {
                let loan = loan.take().expect("a loan is in one request at a time");
                direct_read_request(geometry, &self.slots, self.whole, (loan, len), buf)
            }
            Target::Buffer | Target::Copied(_) => {
                let buf = buf.expect("each hit has a buffer: one without would get no read");
                // The payload lands behind one block of headroom either way.
                read_request(geometry, &self.slots, len, self.whole, buf)
            }
        }
    }

    /// Step 4: takes the bytes and verifies them.
    pub(crate) fn arrived(&mut self, inner: &Inner, answer: Completion) {
        let (whole, len, identity) = (self.whole, self.len(), &inner.identity);
        let (slots, located) = (&self.slots, self.lease.located());
        let header_matches =
            |header: &[u8]| !whole || header_matches(identity, header, &self.key, located, slots);
        let payload_matches =
            |payload: &[u8]| payload_matches(identity, payload, &self.key, located);
        self.read = match (answer.result, &mut self.target) {
            (Ok(()), Target::Buffer | Target::Copied(_)) => {
                let buf = answer
                    .buf
                    .expect("a read that succeeded gives its buffer back");
                let (header, payload) = buf.split_at(FORMAT_BLOCK);
                if !header_matches(header) || !payload_matches(payload) {
                    Read::Refuted
                } else if let Target::Copied(loan) = &mut self.target {
                    let to = loan.bytes_mut().expect("checked when the get began");
                    to[..len].copy_from_slice(&payload[..len]);
                    add(&inner.counters.bytes_copied, len);
                    Read::Verified(None)
                } else {
                    Read::Verified(Some(buf))
                }
            }
            (Ok(()), Target::Direct(target)) => {
                let mut loan = answer
                    .loan
                    .expect("a read that succeeded gives its loan back");
                let memory = loan.bytes_mut().expect("checked when the get began");
                let payload = &mut memory[..len];
                let buf = answer.buf.as_deref().unwrap_or_default();
                let (header, tail) = buf.split_at(if whole { FORMAT_BLOCK } else { 0 });
                let tail_len = tail_len(len);
                payload[len - tail_len..].copy_from_slice(&tail[..tail_len]);
                let read = match header_matches(header) && payload_matches(payload) {
                    true => Read::Verified(None),
                    false => {
                        // It must not be taken for the value.
                        payload.fill(0);
                        Read::Refuted
                    }
                };
                *target = Some(loan);
                read
            }
            (Err(error), Target::Direct(_)) => {
                let loan = answer.loan;
                let mut read = Read::Failed(Error::Closed);
                if let Some(mut loan) = loan {
                    let memory = loan.bytes_mut().expect("checked when the get began");
                    memory[..len].fill(0);
                    if error.is_memory_refused() {
                        inner.direct.refused(loan.arena().id(), &error);
                        self.target = Target::Copied(loan);
                        read = Read::NoAccess;
                    }
                }
                match read {
                    Read::NoAccess => read,
                    _ => Read::Failed(error.into()),
                }
            }
            (Err(error), _) => Read::Failed(error.into()),
        };
    }
}

/// The place where a get puts a value.
pub(crate) enum Target {
    /// A buffer of the store, which the caller gets.
    Buffer,
    /// The caller's memory; `None` while a request has it.
    Direct(Option<Loan>),
    /// The caller's memory, by way of a buffer.
    Copied(Loan),
}

impl Target {
    /// The target of a get into the caller's memory.
    pub(crate) fn memory(inner: &Inner, loan: Loan) -> Target {
        match inner.direct.reads_into(&loan) {
            true => Target::Direct(Some(loan)),
            false => Target::Copied(loan),
        }
    }

    /// Checks that a value of `len` bytes can be read into it.
    ///
    /// # Errors
    /// `OutputTooSmall` and `SharedLoan`.
    pub(crate) fn check(&self, len: usize) -> Result<(), Error> {
        match self {
            Target::Direct(Some(loan)) | Target::Copied(loan) => {
                let (needed, given) = (len, loan.len());
                if needed > given {
                    return Err(Error::OutputTooSmall { needed, given });
                }
                match loan.is_exclusive() {
                    true => Ok(()),
                    false => Err(Error::SharedLoan),
                }
            }
            Target::Buffer | Target::Direct(None) => Ok(()),
        }
    }

    /// Returns the value after it was verified: in `buf`, or in the target's memory.
    pub(crate) fn found(
        self,
        buf: Option<Buffer>,
        len: usize,
        metadata: Box<[u8]>,
        generation: u64,
    ) -> Found {
        match (self, buf) {
            (Target::Direct(Some(loan)) | Target::Copied(loan), _) => Found::At(ValueAt {
                loan,
                len,
                metadata,
                generation,
            }),
            (_, Some(buf)) => Found::Value(Value::new(buf, len, metadata, generation)),
            _ => unreachable!("a verified value is in memory"),
        }
    }
}
