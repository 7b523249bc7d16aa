//! One put in flight: its slots, its headers and checksum, and its log record.

use rb_format::{
    FORMAT_BLOCK, Generation, MoreSlots, PayloadChecksum, Record, SlotHeaderRef, key_hash,
};
use rb_index::{NewEntry, Reservation};
use rb_io::{Buffer, Loan, Request};

use crate::core::inner::Inner;
use crate::core::pieces::{
    SlotIds, buffer_bytes, direct_write_request, fill_continuations, header_position, tail_len,
    write_request,
};
use crate::error::Error;
use crate::value::ValueBuf;

/// Bytes of lent memory that are copied and checksummed together. They fit the nearest cache, and a
/// copy of so few bytes does not pay for the start of the long copy instruction: per second, 18 GB
/// were checksummed in steps of 1 KiB, 10 GB in steps of 16 KiB, and 27 GB without the copy.
const CHECKSUM_STEP: usize = 1 << 10;

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

    /// Step 3 for a value in a buffer: checksum and headers. Returns the request that writes it.
    pub(crate) fn write(&mut self, inner: &Inner, mut memory: ValueBuf) -> Request {
        let len = memory.len();
        let mut sum = self.checksum(inner, len);
        sum.update(&memory);
        self.fill_header(inner, (sum.finish(), len), memory.parts().0);
        let mut buf = memory.into_sealed();
        let position = |number| header_position(len, number);
        fill_continuations(
            &inner.identity,
            self.generation,
            &self.slots,
            position,
            &mut buf,
        );
        write_request(&inner.geometry, &self.slots, len, buf)
    }

    /// Step 3 for a value in the caller's memory, which stays there. `headers` has room for the
    /// headers and for the tail.
    pub(crate) fn write_direct(
        &mut self,
        inner: &Inner,
        loan: Loan,
        mut headers: Buffer,
    ) -> Request {
        let (len, tail_len) = (loan.len(), tail_len(loan.len()));
        let (_, tail) = headers.split_at_mut(self.slots.len() * FORMAT_BLOCK);
        if tail_len > 0 {
            let (tail, padding) = tail[..FORMAT_BLOCK].split_at_mut(tail_len);
            loan.copy_to(len - tail_len, tail);
            padding.fill(0);
        }
        let mut sum = self.checksum(inner, len);
        // Its owner may change the memory meanwhile, so it is never a slice. A block of it at a time
        // is copied to where the processor's cache has it.
        let mut block = [0; CHECKSUM_STEP];
        let mut at = 0;
        while at < len - tail_len {
            let step = CHECKSUM_STEP.min(len - tail_len - at);
            loan.copy_to(at, &mut block[..step]);
            sum.update(&block[..step]);
            at += step;
        }
        sum.update(tail.get(..tail_len).unwrap_or_default());
        self.fill_header(inner, (sum.finish(), len), &mut headers);
        let position = |number| number * FORMAT_BLOCK;
        fill_continuations(
            &inner.identity,
            self.generation,
            &self.slots,
            position,
            &mut headers,
        );
        direct_write_request(&inner.geometry, &self.slots, loan, headers)
    }

    /// Starts the checksum of its payload, of `len` bytes.
    fn checksum(&self, inner: &Inner, len: usize) -> PayloadChecksum {
        let hash = key_hash(&inner.identity.uuid, &self.key);
        let slot = self.slots[0].0;
        PayloadChecksum::new(&inner.identity, self.generation, slot, hash, len as u64)
    }

    /// Writes the header of the first slot into `block`. `sum` is the checksum of the payload.
    fn fill_header(&mut self, inner: &Inner, (sum, len): (u64, usize), block: &mut [u8]) {
        self.payload_len = u32::try_from(len).expect("a value is shorter than 4 GiB");
        self.payload_checksum = sum;
        let header = SlotHeaderRef {
            generation: self.generation,
            slot: self.slots[0].0,
            more: MoreSlots::from(&*self.more),
            key_hash: key_hash(&inner.identity.uuid, &self.key),
            payload_len: self.payload_len,
            payload_checksum: sum,
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
