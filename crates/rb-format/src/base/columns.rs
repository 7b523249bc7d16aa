//! The raw form of a section: columns of byte planes, then keys, then metadata.
//!
//! Each number column is stored as planes: the lowest byte of every entry, then the next byte of
//! every entry, and so on. The upper bytes of most numbers hardly vary and compress to almost
//! nothing that way, while random low bytes, which are incompressible, cost only their own size.
//!
//! ```text
//! key_len 2 | metadata_len 2 | slot 4 | generation 8 | payload_len 4 | payload_checksum 8
//! | placement 2 | recency 4 | policy 2 | expiry 4 | more_slots 1     (planes of `entries` bytes each)
//! | keys one after another | metadata one after another | further slots one after another
//! ```

/// Offsets of the columns in planes, in storage order.
pub(crate) const KEY_LEN: usize = 0;
pub(crate) const METADATA_LEN: usize = KEY_LEN + 2;
pub(crate) const SLOT: usize = METADATA_LEN + 2;
pub(crate) const GENERATION: usize = SLOT + 4;
pub(crate) const PAYLOAD_LEN: usize = GENERATION + 8;
pub(crate) const PAYLOAD_CHECKSUM: usize = PAYLOAD_LEN + 4;
pub(crate) const PLACEMENT: usize = PAYLOAD_CHECKSUM + 8;
pub(crate) const RECENCY: usize = PLACEMENT + 2;
pub(crate) const POLICY: usize = RECENCY + 4;
pub(crate) const EXPIRY: usize = POLICY + 2;
pub(crate) const MORE_SLOTS: usize = EXPIRY + 4;
/// Planes of all columns: bytes of an entry without key, metadata and further slots.
pub(crate) const PLANES: usize = MORE_SLOTS + 1;

const COLUMNS: usize = 11;
/// Offset of each column, followed by the end of the last.
const OFFSETS: [usize; COLUMNS + 1] = [
    KEY_LEN,
    METADATA_LEN,
    SLOT,
    GENERATION,
    PAYLOAD_LEN,
    PAYLOAD_CHECKSUM,
    PLACEMENT,
    RECENCY,
    POLICY,
    EXPIRY,
    MORE_SLOTS,
    PLANES,
];

/// Appends a column to `out` as planes.
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
    /// A bitmap of the planes that are not all zero, lowest plane in the lowest bit. Two thirds are
    /// all zero and need only one scan.
    used: u64,
}

const _: () = assert!(PLANES <= u64::BITS as usize, "a bit for each plane");

impl<'a> Planes<'a> {
    /// Splits the planes off the front of `raw`; `None` if it is too short.
    pub(super) fn split(raw: &'a [u8], entries: usize) -> Option<(Planes<'a>, &'a [u8])> {
        let (bytes, rest) = raw.split_at_checked(entries.checked_mul(PLANES)?)?;
        let mut planes = Planes {
            bytes,
            entries,
            used: 0,
        };
        // No early exit, so that the compiler can vectorise the scan.
        let is_used = |plane| planes.plane(plane).iter().fold(0, |all, byte| all | byte) != 0;
        let used = (0..PLANES).map(|plane| u64::from(is_used(plane)) << plane);
        planes.used = used.sum();
        Some((planes, rest))
    }

    /// Returns the sum of a column of `width` planes that starts at plane `column`.
    pub(super) fn sum(&self, column: usize, width: usize) -> u64 {
        let of_plane = |plane| {
            let bytes = self.plane(column + plane).iter();
            bytes.map(|&byte| u64::from(byte)).sum::<u64>() << (8 * plane)
        };
        (0..width).map(of_plane).sum()
    }

    fn plane(&self, plane: usize) -> &[u8] {
        &self.bytes[plane * self.entries..][..self.entries]
    }
}

/// Entries assembled together: plane by plane, so that one instruction processes many, and few
/// enough to stay in the L1 cache.
pub(super) const ROWS: usize = 64;

/// The numbers of some successive entries, column by column.
pub(super) struct Rows([[u64; ROWS]; COLUMNS]);

impl Rows {
    pub(super) fn new() -> Rows {
        Rows([[0; ROWS]; COLUMNS])
    }

    /// Reads entries starting with `first`, as many as exist and fit.
    pub(super) fn read(&mut self, planes: &Planes<'_>, first: usize) {
        for (numbers, column) in self.0.iter_mut().zip(OFFSETS.windows(2)) {
            *numbers = [0; ROWS];
            let used = |(_, plane): &(usize, usize)| planes.used >> plane & 1 != 0;
            for (shift, plane) in (column[0]..column[1]).enumerate().filter(used) {
                for (number, &byte) in numbers.iter_mut().zip(&planes.plane(plane)[first..]) {
                    *number |= u64::from(byte) << (8 * shift);
                }
            }
        }
    }

    /// Returns the numbers of one entry, in the order of the columns.
    pub(super) fn get(&self, row: usize) -> [u64; COLUMNS] {
        self.0.each_ref().map(|numbers| numbers[row])
    }
}
