//! The raw form of a section: columns of byte planes, then keys, then metadata.
//!
//! Each number column is stored as planes: the lowest byte of every entry, then the next byte of
//! every entry, and so on. The upper bytes of most numbers hardly vary and compress to nothing
//! that way, while random low bytes, which nothing compresses, cost their own size and no more.
//!
//! ```text
//! key_len 2 | metadata_len 2 | slot 4 | generation 8 | payload_len 4 | payload_checksum 8
//! | placement 2 | recency 4     (planes of `entries` bytes each)
//! | keys one after another | metadata one after another
//! ```

/// Offsets of the columns in planes, in the order in which they are stored.
pub(crate) const KEY_LEN: usize = 0;
pub(crate) const METADATA_LEN: usize = KEY_LEN + 2;
pub(crate) const SLOT: usize = METADATA_LEN + 2;
pub(crate) const GENERATION: usize = SLOT + 4;
pub(crate) const PAYLOAD_LEN: usize = GENERATION + 8;
pub(crate) const PAYLOAD_CHECKSUM: usize = PAYLOAD_LEN + 4;
pub(crate) const PLACEMENT: usize = PAYLOAD_CHECKSUM + 8;
pub(crate) const RECENCY: usize = PLACEMENT + 2;
/// Planes of all columns: bytes of an entry besides key and metadata.
pub(crate) const PLANES: usize = RECENCY + 4;

/// Writes a column as planes behind what `out` has.
pub(super) fn write<const N: usize>(
    out: &mut Vec<u8>,
    column: impl Iterator<Item = [u8; N]> + Clone,
) {
    for plane in 0..N {
        out.extend(column.clone().map(|number| number[plane]));
    }
}

/// The planes of a section of `entries` entries. The slice is exactly all planes.
#[derive(Clone, Copy)]
pub(super) struct Planes<'a> {
    bytes: &'a [u8],
    entries: usize,
}

impl<'a> Planes<'a> {
    /// Splits the planes off the front of `raw`; `None` if it is too short.
    pub(super) fn split(raw: &'a [u8], entries: usize) -> Option<(Planes<'a>, &'a [u8])> {
        let (bytes, rest) = raw.split_at_checked(entries.checked_mul(PLANES)?)?;
        Some((Planes { bytes, entries }, rest))
    }

    /// The number of entry `entry` in the column that starts at plane `column`.
    pub(super) fn get<const N: usize>(&self, column: usize, entry: usize) -> [u8; N] {
        core::array::from_fn(|plane| self.bytes[(column + plane) * self.entries + entry])
    }
}
