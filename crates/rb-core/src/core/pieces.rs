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
use rb_io::{Buffer, Request, Segment};
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
        }
    }
}

/// Bytes of buffer memory of a value of this length in so many slots.
pub(crate) fn buffer_bytes(payload_len: usize, slots: usize) -> usize {
    slots * FORMAT_BLOCK + padded_len(payload_len as u64) as usize
}

/// Position of the header of a piece after the first in the value's buffer.
fn header_position(payload_len: usize, number: usize) -> usize {
    buffer_bytes(payload_len, number)
}

/// Writes the headers of the pieces after the first into the value's buffer.
pub(crate) fn fill_continuations(
    identity: &rb_format::Identity,
    generation: Generation,
    slots: &[SlotId],
    payload_len: usize,
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
        let at = header_position(payload_len, number.into());
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
        });
        request.more.push(piece.payload_segment(geometry));
    }
    request
}

/// Returns the request that reads a value into its buffer. The header of the first piece is read if
/// asked for; it names all slots, so the others are not needed.
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
    request
}
