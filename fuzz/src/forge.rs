//! Recomputes the checksum of changed bytes: a fuzzer that cannot pass a checksum tests nothing behind it.

use rb_format::FORMAT_BLOCK;

use crate::input::Input;

/// Offset of the checksum in every one-block structure (`docs/format.md`).
pub(crate) const CHECKSUM_AT: usize = FORMAT_BLOCK - 8;

/// Bytes for a decoder, made from an input.
pub(crate) struct Forged {
    pub(crate) bytes: Vec<u8>,
    /// True if the checksum must be made right.
    pub(crate) sealed: bool,
}

/// Makes bytes as the first byte of the input selects: the input as it is; the input behind the head of `sample`; or
/// `sample` with patches, its checksum left wrong or made right.
pub(crate) fn forge(input: &mut Input<'_>, sample: &[u8]) -> Forged {
    let mode = input.byte() % 8;
    let (bytes, sealed) = match mode {
        0 => (input.rest().to_vec(), false),
        1 => (patched(input, sample), false),
        2 | 3 => {
            // Keep the magic, the version and everything in front of the identity.
            let mut bytes = sample.to_vec();
            let rest = input.rest();
            let room = bytes.len().saturating_sub(64);
            let len = rest.len().min(room);
            bytes[64..64 + len].copy_from_slice(&rest[..len]);
            (bytes, true)
        }
        _ => (patched(input, sample), true),
    };
    Forged { bytes, sealed }
}

/// Returns `sample` with the changes that the rest of the input names.
pub(crate) fn patched(input: &mut Input<'_>, sample: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    while !input.is_empty() {
        patch(input, &mut bytes);
    }
    bytes
}

/// Makes one change: some bytes anywhere, or a number at the position of a field.
pub(crate) fn patch(input: &mut Input<'_>, bytes: &mut [u8]) {
    let kind = input.byte();
    if kind & 1 == 0 {
        let at = input.below(bytes.len());
        let len = usize::from(kind >> 1) % 16 + 1;
        let new = input.bytes(len);
        overwrite(bytes, at, new);
    } else {
        // Fields begin at even offsets, most of them within the first 256 bytes.
        let at = usize::from(input.byte()) * 2;
        let width = [1, 2, 4, 8][usize::from(kind >> 1) % 4];
        let number = input.number().to_le_bytes();
        overwrite(bytes, at, &number[..width]);
    }
}

fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    let end = (at + new.len()).min(bytes.len());
    if at < end {
        bytes[at..end].copy_from_slice(&new[..end - at]);
    }
}

/// Makes the checksum of a one-block structure right. Shorter input has no checksum and stays unchanged.
pub(crate) fn seal(block: &mut [u8]) {
    if block.len() >= FORMAT_BLOCK {
        let sum = u64::from(crc32fast::hash(&block[..CHECKSUM_AT]));
        block[CHECKSUM_AT..FORMAT_BLOCK].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Returns the little-endian number of 8 bytes at `at`; 0 beyond the end.
pub(crate) fn number_at(bytes: &[u8], at: usize) -> u64 {
    let number = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    number.map_or(0, |number| u64::from_le_bytes(*number))
}
