//! The pieces of a value: which slot holds which part of the payload, and where a buffer has them.
//!
//! ```text
//! buffer:  | header of piece 0 | payload, padded to whole format blocks | headers of pieces 1, 2, … |
//! slot of piece n:  | header n | part n of the payload |
//! ```
//!
//! The payload is contiguous in the buffer, so that a value is one slice. All parts but the last
//! are as long as a slot holds. A value of one slot is contiguous in its buffer and in its slot.

use rb_format::{Continuation, FORMAT_BLOCK, Generation, Geometry, padded_len};
use rb_index::{Located, MoreSlots, SlotId};
use rb_io::{Buffer, Loan, Memory, OpKind, Request, Segment};
use smallvec::SmallVec;

/// The slots of a value, in the order of its bytes. Nearly all values have one.
pub(crate) type SlotIds = SmallVec<[SlotId; 2]>;

/// Returns the slots of an entry.
pub(crate) fn slots_of(located: &Located, more: MoreSlots<'_>) -> SlotIds {
    std::iter::once(located.slot).chain(more).collect()
}

/// One slot of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// Its number, from 0.
    pub(crate) number: usize,
    pub(crate) slot: SlotId,
    /// Position of its part of the payload, in bytes.
    pub(crate) start: usize,
    /// Length of its part of the payload, in bytes.
    pub(crate) len: usize,
}

/// Returns the pieces of a value in order.
///
/// # Panics
/// If a slot lies outside the layout, or the value is not of a length that fills these slots.
/// Recovery loads no such entries, and puts create none.
pub(crate) fn pieces<'a>(
    geometry: &'a Geometry,
    slots: &'a [SlotId],
    payload_len: usize,
) -> impl ExactSizeIterator<Item = Piece> + 'a {
    let capacity = geometry.slot_capacity(slots[0].0);
    let capacity = capacity.expect("an entry's slot lies within the layout") as usize;
    assert!(
        payload_len > (slots.len() - 1) * capacity && payload_len <= slots.len() * capacity,
        "a value of {payload_len} bytes in {} slots of {capacity}",
        slots.len()
    );
    slots.iter().enumerate().map(move |(number, &slot)| {
        let start = number * capacity;
        let len = capacity.min(payload_len - start);
        Piece {
            number,
            slot,
            start,
            len,
        }
    })
}

impl Piece {
    /// Bytes that its part of the payload takes on the device.
    pub(crate) fn padded_len(&self) -> usize {
        padded_len(self.len as u64) as usize
    }

    /// Offset of its header on the device.
    pub(crate) fn header_offset(&self, geometry: &Geometry) -> u64 {
        let offset = geometry.slot_offset(self.slot.0);
        offset.expect("an entry's slot lies within the layout")
    }

    /// Its part of the payload: the range of the device, and of the value's buffer.
    fn payload_segment(&self, geometry: &Geometry) -> Segment {
        Segment {
            offset: self.header_offset(geometry) + FORMAT_BLOCK as u64,
            len: self.padded_len() as u64,
            buf_offset: FORMAT_BLOCK + self.start,
            memory: Memory::Buffer,
        }
    }
}

/// Bytes of the payload's last block that a direct transfer moves through a block of the store's: a
/// transfer moves whole blocks, and nothing past the value's length is touched in the caller's
/// memory. 0 if the value ends with a block.
pub(crate) fn tail_len(payload_len: usize) -> usize {
    payload_len % FORMAT_BLOCK
}

/// A value of one slot and of so many bytes is checksummed as its parts arrive. A shorter one is read
/// in about the time of a wake-up.
const CHECKSUMMED_MIN: usize = 2 << 20;

/// Returns whether a value is checksummed as its parts arrive, while the device reads the others.
fn is_checksummed(slots: &[SlotId], payload_len: usize) -> bool {
    slots.len() > 1 || payload_len >= CHECKSUMMED_MIN
}

/// Returns the ranges of a payload in the caller's memory; its tail is at `tail_at` of the buffer.
fn direct_segments(
    geometry: &Geometry,
    piece: Piece,
    tail_at: usize,
) -> impl Iterator<Item = Segment> + use<> {
    let offset = piece.header_offset(geometry) + FORMAT_BLOCK as u64;
    let tail = tail_len(piece.len);
    let whole = (piece.len - tail) as u64;
    let body = Segment {
        offset,
        len: whole,
        buf_offset: piece.start,
        memory: Memory::Loan,
    };
    let tail = (tail > 0).then_some(Segment {
        offset: offset + whole,
        len: FORMAT_BLOCK as u64,
        buf_offset: tail_at,
        memory: Memory::Buffer,
    });
    std::iter::once(body)
        .filter(|body| body.len > 0)
        .chain(tail)
}

/// Bytes of buffer memory that a direct read needs: the header if it is verified, then the tail.
pub(crate) fn direct_read_bytes(payload_len: usize, with_header: bool) -> usize {
    FORMAT_BLOCK * (usize::from(with_header) + usize::from(tail_len(payload_len) > 0))
}

/// Returns the request that reads a value straight into the caller's memory.
pub(crate) fn direct_read_request(
    geometry: &Geometry,
    slots: &[SlotId],
    with_header: bool,
    (loan, payload_len): (Loan, usize),
    buffer: Option<Buffer>,
) -> Request {
    let first = slots.first().expect("a value has at least one slot");
    let header = geometry.slot_offset(first.0);
    let header_len = if with_header { FORMAT_BLOCK } else { 0 };
    let segments = |piece: Piece| direct_segments(geometry, piece, header_len);
    Request {
        op: OpKind::Read,
        offset: header.expect("an entry's slot lies within the layout"),
        len: header_len as u64,
        buf: buffer,
        buf_offset: 0,
        placement: None,
        more: pieces(geometry, slots, payload_len)
            .flat_map(segments)
            .collect(),
        loan: Some(loan),
        checksummed: is_checksummed(slots, payload_len)
            .then(|| 0..payload_len - tail_len(payload_len)),
    }
}

/// Bytes of buffer memory that a direct write needs: a header for each slot, then the tail.
pub(crate) fn direct_write_bytes(payload_len: usize, slots: usize) -> usize {
    FORMAT_BLOCK * (slots + usize::from(tail_len(payload_len) > 0))
}

/// Returns the request that writes a value straight from the caller's memory; `headers` are those
/// of its slots, then its tail.
pub(crate) fn direct_write_request(
    geometry: &Geometry,
    slots: &[SlotId],
    loan: Loan,
    headers: Buffer,
) -> Request {
    let (mut pieces, tail_at) = (
        pieces(geometry, slots, loan.len()),
        slots.len() * FORMAT_BLOCK,
    );
    let first = pieces.next().expect("a value has at least one piece");
    let mut more: Vec<Segment> = direct_segments(geometry, first, tail_at).collect();
    for piece in pieces {
        more.push(Segment {
            offset: piece.header_offset(geometry),
            len: FORMAT_BLOCK as u64,
            buf_offset: piece.number * FORMAT_BLOCK,
            memory: Memory::Buffer,
        });
        more.extend(direct_segments(geometry, piece, tail_at));
    }
    Request {
        more,
        loan: Some(loan),
        ..Request::write(first.header_offset(geometry), headers, 0, FORMAT_BLOCK)
    }
}

/// Bytes of buffer memory of a value of this length in so many slots.
pub(crate) fn buffer_bytes(payload_len: usize, slots: usize) -> usize {
    slots * FORMAT_BLOCK + padded_len(payload_len as u64) as usize
}

/// Position of the header of a piece after the first in the value's buffer.
pub(crate) fn header_position(payload_len: usize, number: usize) -> usize {
    buffer_bytes(payload_len, number)
}

/// Writes the headers of the pieces after the first, each at its position in `buffer`.
pub(crate) fn fill_continuations(
    identity: &rb_format::Identity,
    generation: Generation,
    slots: &[SlotId],
    position: impl Fn(usize) -> usize,
    buffer: &mut [u8],
) {
    let more_slots = u8::try_from(slots.len() - 1).expect("a value has at most 256 slots");
    for (number, slot) in (1..=more_slots).zip(&slots[1..]) {
        let header = Continuation {
            generation,
            slot: slot.0,
            first_slot: slots[0].0,
            number,
            more_slots,
        };
        let at = position(number.into());
        header.encode_into(identity, &mut buffer[at..at + FORMAT_BLOCK]);
    }
}

/// Returns the request that writes a value, headers included, from its buffer.
pub(crate) fn write_request(
    geometry: &Geometry,
    slots: &[SlotId],
    payload_len: usize,
    buffer: Buffer,
) -> Request {
    let mut pieces = pieces(geometry, slots, payload_len);
    let first = pieces.next().expect("a value has at least one piece");
    let len = FORMAT_BLOCK + first.padded_len();
    let mut request = Request::write(first.header_offset(geometry), buffer, 0, len);
    for piece in pieces {
        request.more.push(Segment {
            offset: piece.header_offset(geometry),
            len: FORMAT_BLOCK as u64,
            buf_offset: header_position(payload_len, piece.number),
            memory: Memory::Buffer,
        });
        request.more.push(piece.payload_segment(geometry));
    }
    request
}

/// Returns the request that reads a value into its buffer. If the entry is unverified, the
/// header of the first piece is read, too; it names all slots, so the others are not needed.
pub(crate) fn read_request(
    geometry: &Geometry,
    slots: &[SlotId],
    payload_len: usize,
    with_header: bool,
    buffer: Buffer,
) -> Request {
    let mut pieces = pieces(geometry, slots, payload_len);
    let first = pieces.next().expect("a value has at least one piece");
    let (offset, len) = (first.header_offset(geometry), first.padded_len());
    let mut request = match with_header {
        true => Request::read(offset, buffer, 0, FORMAT_BLOCK + len),
        false => Request::read(offset + FORMAT_BLOCK as u64, buffer, FORMAT_BLOCK, len),
    };
    request.more = pieces
        .map(|piece| piece.payload_segment(geometry))
        .collect();
    let payload = FORMAT_BLOCK..FORMAT_BLOCK + payload_len;
    request.checksummed = is_checksummed(slots, payload_len).then_some(payload);
    request
}
