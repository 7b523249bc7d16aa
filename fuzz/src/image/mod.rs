//! The target for opening: a sound device, changed as the input says, is opened and used.
//!
//! Opening may fail with an error. If it does not, the store never gives bytes that were not put for
//! the key (C1), what it answers as done is done, its accounting holds, and after a clean close it
//! reopens clean and with the same answers.

mod change;
mod device;
mod sample;
mod using;

use crate::input::Input;
use change::change;
use sample::samples;

/// Input: sample (1 byte), options (1), operations (1 + up to 7), changes (the rest).
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
