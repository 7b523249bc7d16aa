//! One hit of a get: where its value goes, its read, and the verification of what arrives.

use rb_format::FORMAT_BLOCK;
use rb_index::Lease;
use rb_io::{Buffer, Completion, Loan, PartSum, Request};

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
            Target::Buffer | Target::Copied(_) | Target::Gone => {
                buffer_bytes(len, self.slots.len())
            }
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
            Target::Buffer | Target::Copied(_) | Target::Gone => {
                let buf = buf.expect("each hit has a buffer: one without would get no read");
                // The payload lands behind one block of headroom either way.
                read_request(geometry, &self.slots, len, self.whole, buf)
            }
        }
    }

    /// Step 4: takes the bytes and verifies them.
    pub(crate) fn arrived(&mut self, inner: &Inner, answer: Completion) {
        let Completion {
            result,
            buf,
            loan,
            sums,
            ..
        } = answer;
        self.read = match (result, loan) {
            (Ok(()), None) => {
                let buf = buf.expect("a read that succeeded gives its buffer back");
                self.in_buffer(inner, buf, &sums)
            }
            (Ok(()), Some(loan)) => {
                self.in_memory(inner, loan, buf.as_deref().unwrap_or_default(), &sums)
            }
            (Err(error), Some(mut loan)) => {
                bytes_of(&mut loan)[..self.len()].fill(0);
                if error.is_memory_refused() {
                    inner.direct.refused(loan.arena().id(), &error);
                    self.returns(Target::Copied(loan));
                    Read::NoAccess
                } else {
                    Read::Failed(error.into())
                }
            }
            (Err(error), None) => Read::Failed(error.into()),
        };
    }

    /// Takes the caller's memory back from the device. Its loan ends if the caller has its answer.
    fn returns(&mut self, target: Target) {
        if !matches!(self.target, Target::Gone) {
            self.target = target;
        }
    }

    /// Verifies a value that was read into a buffer, and copies it if that is not its target.
    fn in_buffer(&mut self, inner: &Inner, buf: Buffer, sums: &[PartSum]) -> Read {
        let (header, payload) = buf.split_at(FORMAT_BLOCK);
        let len = self.len();
        let payload = &payload[..len];
        if !self.is_verified_by(inner, header, payload, (FORMAT_BLOCK, sums)) {
            return Read::Refuted;
        }
        match &mut self.target {
            Target::Copied(loan) => {
                bytes_of(loan)[..len].copy_from_slice(payload);
                add(&inner.counters.bytes_copied, len);
                Read::Verified(None)
            }
            Target::Buffer | Target::Direct(_) | Target::Gone => Read::Verified(Some(buf)),
        }
    }

    /// Verifies a value that was read into the caller's memory; `buf` has its header, if that was
    /// read, and its tail.
    fn in_memory(&mut self, inner: &Inner, mut loan: Loan, buf: &[u8], sums: &[PartSum]) -> Read {
        let len = self.len();
        let (header, tail) = buf.split_at(if self.whole { FORMAT_BLOCK } else { 0 });
        let payload = &mut bytes_of(&mut loan)[..len];
        let tail_len = tail_len(len);
        payload[len - tail_len..].copy_from_slice(&tail[..tail_len]);
        let verified = self.is_verified_by(inner, header, payload, (0, sums));
        if !verified {
            // It must not be taken for the value.
            payload.fill(0);
        }
        self.returns(Target::Direct(Some(loan)));
        match verified {
            true => {
                inner.counters.add_direct(len);
                Read::Verified(None)
            }
            false => Read::Refuted,
        }
    }

    /// Returns whether these bytes are those of the entry. If the payload is large, the bytes from
    /// `sums.0` of its memory on were checksummed when they arrived.
    fn is_verified_by(
        &self,
        inner: &Inner,
        header: &[u8],
        payload: &[u8],
        sums: (usize, &[PartSum]),
    ) -> bool {
        let (identity, located) = (&inner.identity, self.lease.located());
        let summed: usize = sums.1.iter().map(|sum| sum.len).sum();
        (!self.whole || header_matches(identity, header, &self.key, located, &self.slots))
            && payload_matches(identity, sums, &payload[summed..], &self.key, located)
    }
}

/// The memory of a target, whose loan was found to be exclusive when the get began.
fn bytes_of(loan: &mut Loan) -> &mut [u8] {
    loan.bytes_mut().expect("a target is an exclusive loan")
}

/// The place where a get puts a value.
pub(crate) enum Target {
    /// A buffer of the store, which the caller gets.
    Buffer,
    /// The caller's memory; `None` while a request has it.
    Direct(Option<Loan>),
    /// The caller's memory, by way of a buffer.
    Copied(Loan),
    /// Nothing: the caller has its answer.
    Gone,
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
            Target::Buffer | Target::Direct(None) | Target::Gone => Ok(()),
        }
    }

    /// Returns the value after it was verified: in `buf`, or in the target's memory; `None` if it has no target any more.
    pub(crate) fn found(
        self,
        buf: Option<Buffer>,
        len: usize,
        metadata: Box<[u8]>,
        generation: u64,
    ) -> Option<Found> {
        let found = match (self, buf) {
            (Target::Gone, _) => return None,
            (Target::Direct(Some(loan)) | Target::Copied(loan), _) => Found::At(ValueAt {
                loan,
                len,
                metadata,
                generation,
            }),
            (_, Some(buf)) => Found::Value(Value::new(buf, len, metadata, generation)),
            _ => unreachable!("a verified value is in memory"),
        };
        Some(found)
    }
}
