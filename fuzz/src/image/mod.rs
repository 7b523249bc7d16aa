//! The target for opening: a sound device is changed as the input says, then opened and used.
//!
//! Opening may fail with an error. If it succeeds, the store never returns bytes that were not put for the key (C1),
//! acknowledged operations have taken effect, its accounting holds, and after a clean close it reopens clean and
//! returns the same values.

mod change;
mod device;
mod sample;
mod using;

use crate::input::Input;
use change::change;
use sample::samples;

/// Runs an input: sample (1 byte), options (1), operations (1 + up to 7), changes (the rest).
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let samples = samples();
    let sample = &samples[usize::from(input.byte()) % samples.len()];
    let options = input.byte();
    let count = usize::from(input.byte() % 8);
    let operations = input.bytes(count);
    let mut image = sample.image.clone();
    let changed = change(&mut image, sample, &mut input);
    using::open_and_use(&image.device(), options, operations, !changed.forged_values);
}
