//! Reads a fuzzer's bytes as choices and numbers. Reading never fails: past the end every byte is 0.

/// Numbers at which arithmetic tends to fail.
const INTERESTING: [u64; 16] = [
    0,
    1,
    2,
    u64::MAX,
    u64::MAX - 1,
    1 << 63,
    (1 << 63) - 1,
    1 << 62,
    u32::MAX as u64,
    1 << 32,
    1 << 31,
    u16::MAX as u64,
    4095,
    4096,
    // The highest counter of the first session and the lowest one of the second, as generations.
    (1 << 42) - 1,
    1 << 42,
];

/// The remaining bytes; reads consume them from the front.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns up to `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Returns all remaining bytes.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// Returns a number below `limit`, from two bytes.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.little_endian(2) as usize % limit.max(1)
    }

    /// Returns one of `choices`, which must not be empty.
    pub(crate) fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// Returns a number: small, of any width, or one at which arithmetic tends to fail.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            kind @ 0..=15 => INTERESTING[usize::from(kind)],
            16..=63 => self.little_endian(8),
            64..=127 => self.little_endian(4),
            128..=191 => self.little_endian(2),
            192..=255 => self.little_endian(1),
        }
    }

    fn little_endian(&mut self, width: usize) -> u64 {
        let mut bytes = [0; 8];
        let taken = self.bytes(width);
        bytes[..taken.len()].copy_from_slice(taken);
        u64::from_le_bytes(bytes)
    }
}
