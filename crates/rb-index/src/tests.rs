//! Tests of the index as a whole.

mod memory;
mod model;
mod policies;
pub(crate) mod rules;
mod several;
mod unrecorded;

/// Returns the number of repetitions of a randomised test: few under Miri, which is hundreds of
/// times slower.
pub(crate) const fn repeated(times: u64) -> u64 {
    if cfg!(miri) {
        times.div_ceil(200)
    } else {
        times
    }
}

/// A small seeded generator (xorshift64*), so that a failing sequence can be reproduced from its
/// seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Returns a number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 33) % limit
    }
}
