//! One put in flight: its slots, its headers and checksum, and its log record.

use std::borrow::Cow;
use std::num::NonZeroU16;

use rb_format::{
    FORMAT_BLOCK, Generation, MoreSlots, PayloadChecksum, PieceChecksum, Record, SlotHeaderRef,
    key_hash, padded_len,
};
use rb_index::{NewEntry, Reservation};
use rb_io::{Buffer, Loan, PlacementId, Request};

use crate::core::inner::Inner;
use crate::core::pieces::{
    SlotIds, buffer_bytes, direct_write_request, fill_continuations, header_position, tail_len,
    write_request,
};
use crate::counters::add;
use crate::error::Error;
use crate::ops::put_plan::Payload;

/// Bytes that are copied and checksummed together: they stay in the nearest cache.
const COPY_STEP: usize = 16 << 10;

/// The payload of a put whose request has not been sealed.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    /// Where the request transfers it from: in its buffer, or in lent memory.
    InPlace,
    /// To be copied to the request's buffer.
    Bytes(Cow<'a, [u8]>),
    /// To be copied to the request's buffer, because it cannot be transferred from there.
    Loan(Loan),
}

/// A put in flight. Owns its reservation and its slots.
pub(crate) struct PendingPut {
    pub(crate) at: usize,
    pub(crate) hash: u64,
    pub(crate) shard: usize,
    pub(crate) key: Box<[u8]>,
    pub(crate) metadata: Box<[u8]>,
    /// In seconds since format; 0 for never.
    pub(crate) expiry: u32,
    pub(crate) generation: Generation,
    /// Taken by `publish`, after the write has ended.
    pub(crate) reservation: Option<Reservation>,
    pub(crate) slots: SlotIds,
    /// The numbers of the slots after the first, as records and headers name them.
    pub(crate) more: Box<[u32]>,
    pub(crate) payload_len: u32,
    pub(crate) payload_checksum: u64,
    /// Number of the placement id to write with; 0 for none.
    pub(crate) placement: u16,
    /// The payload in the caller's memory, if the device refused that memory.
    pub(crate) loan: Option<Loan>,
    /// `None` until the write completes.
    pub(crate) written: Option<Result<(), Error>>,
}

impl PendingPut {
    /// Bytes of buffer memory for a copy of the value.
    pub(crate) fn buffer_bytes(&self) -> usize {
        buffer_bytes(self.payload_len as usize, self.slots.len())
    }

    /// Returns the request that writes the value, to be sealed, and the source of its payload. `buffer`
    /// was taken for the put if it needs one.
    pub(crate) fn request<'a>(
        &mut self,
        inner: &Inner,
        payload: Payload<'a>,
        direct: bool,
        buffer: Option<Buffer>,
    ) -> (Request, Source<'a>) {
        let len = payload.len();
        self.payload_len = u32::try_from(len).expect("a value is shorter than 4 GiB");
        let taken = "a buffer was taken for each put that has none";
        let (geometry, slots) = (&inner.geometry, &self.slots);
        let (buffer, source) = match payload {
            Payload::Loan(loan) if direct => {
                let headers = buffer.expect(taken);
                let request = direct_write_request(geometry, slots, loan, headers);
                return (self.placed(request), Source::InPlace);
            }
            Payload::Buffer(memory) => (memory.into_inner(), Source::InPlace),
            Payload::Bytes(bytes) => (buffer.expect(taken), Source::Bytes(bytes.into())),
            Payload::Owned(bytes) => (buffer.expect(taken), Source::Bytes(bytes.into())),
            Payload::Loan(loan) => (buffer.expect(taken), Source::Loan(loan)),
        };
        (
            self.placed(write_request(geometry, slots, len, buffer)),
            source,
        )
    }

    fn placed(&self, request: Request) -> Request {
        Request {
            placement: NonZeroU16::new(self.placement).map(PlacementId),
            ..request
        }
    }

    /// Step 3: copies the payload to the request if it is elsewhere, checksums it and writes the
    /// headers. Nothing of the request has started.
    pub(crate) fn seal(&mut self, inner: &Inner, source: Source<'_>, request: &mut Request) {
        let len = self.payload_len as usize;
        let mut sum = self.checksum(inner, len);
        let buf = request.buf.as_mut();
        let buf = buf.expect("a put has a buffer, for its headers at least");
        let direct = request.loan.as_ref();
        if let Some(loan) = direct {
            let tail_len = tail_len(len);
            let whole = len - tail_len;
            sum.append(&PieceChecksum::from_crc32(
                loan.crc32(0, whole),
                whole as u64,
            ));
            if tail_len > 0 {
                let tail = &mut buf[self.slots.len() * FORMAT_BLOCK..][..FORMAT_BLOCK];
                let (tail, padding) = tail.split_at_mut(tail_len);
                loan.copy_to(whole, tail);
                padding.fill(0);
                sum.update(tail);
            }
        } else {
            let (payload, rest) = buf[FORMAT_BLOCK..].split_at_mut(len);
            match &source {
                Source::InPlace => sum.update(payload),
                Source::Bytes(bytes) => fill(&mut sum, payload, |at, to| {
                    to.copy_from_slice(&bytes[at..][..to.len()]);
                }),
                Source::Loan(loan) => fill(&mut sum, payload, |at, to| loan.copy_to(at, to)),
            }
            if !matches!(source, Source::InPlace) {
                add(&inner.counters.bytes_copied, len);
            }
            rest[..padded_len(len as u64) as usize - len].fill(0);
        }
        let is_direct = direct.is_some();
        self.payload_checksum = sum.finish();
        self.fill_header(inner, buf);
        let position = |number| match is_direct {
            true => number * FORMAT_BLOCK,
            false => header_position(len, number),
        };
        let (identity, generation) = (&inner.identity, self.generation);
        fill_continuations(identity, generation, &self.slots, position, buf);
    }

    /// Starts the checksum of its payload, of `len` bytes.
    fn checksum(&self, inner: &Inner, len: usize) -> PayloadChecksum {
        let hash = key_hash(&inner.identity.uuid, &self.key);
        let slot = self.slots[0].0;
        PayloadChecksum::new(&inner.identity, self.generation, slot, hash, len as u64)
    }

    /// Writes the header of the first slot into `block`.
    fn fill_header(&self, inner: &Inner, block: &mut [u8]) {
        let header = SlotHeaderRef {
            generation: self.generation,
            slot: self.slots[0].0,
            more: MoreSlots::from(&*self.more),
            key_hash: key_hash(&inner.identity.uuid, &self.key),
            payload_len: self.payload_len,
            payload_checksum: self.payload_checksum,
            placement: self.placement,
            policy: 0,
            expiry: self.expiry,
            key: &self.key,
            metadata: &self.metadata,
        };
        header.encode_into(&inner.identity, block);
    }

    pub(crate) fn entry(&self) -> NewEntry<'_> {
        NewEntry {
            slot: self.slots[0],
            more: &self.slots[1..],
            payload_len: self.payload_len,
            payload_checksum: self.payload_checksum,
            placement: self.placement,
            expiry: self.expiry,
            metadata: &self.metadata,
            verified: true,
        }
    }

    pub(crate) fn record(&self) -> Record<'_> {
        Record::Put {
            key: &self.key,
            slot: self.slots[0].0,
            more: MoreSlots::from(&*self.more),
            generation: self.generation,
            payload_len: self.payload_len,
            payload_checksum: self.payload_checksum,
            placement: self.placement,
            policy: 0,
            expiry: self.expiry,
            metadata: &self.metadata,
        }
    }
}

/// Fills `payload` in steps, each of which is checksummed while the nearest cache has it.
fn fill(sum: &mut PayloadChecksum, payload: &mut [u8], copy_to: impl Fn(usize, &mut [u8])) {
    for (number, step) in payload.chunks_mut(COPY_STEP).enumerate() {
        copy_to(number * COPY_STEP, step);
        sum.update(step);
    }
}
