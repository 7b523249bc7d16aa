//! Bad slots are tested again: a device that once failed for reasons of its own, or was replaced, has its slots back.

use std::time::Duration;

use rb_format::{FORMAT_BLOCK, Generation, Geometry};
use rb_index::{Index, SlotId};
use rb_io::Engine;

use crate::clock::Clock;
use crate::error::Error;
use crate::io::meta_io::MetaIo;
use crate::options::StoreOptions;

/// Written, and read back, at once.
const STEP: u64 = 1 << 20;
/// How long an opening tests. What is left is tested by a later one.
const TIME: Duration = Duration::from_secs(1);
/// What is written: no header, and not what a device answers that has lost the write.
const PATTERN: u8 = 0xa5;

/// The last generation that an opening can have given out: what a slot was put with that this opening, or an earlier one,
/// called bad. Bad slots are forgiven by openings before they write, so that a later put proves it.
pub(crate) fn last_generation(incarnation: u32) -> u64 {
    Generation::new(incarnation, Generation::COUNTER_MAX).map_or(u64::MAX, |last| last.0)
}

/// Frees the bad slots that take a write of all their bytes, and removes them from `bad`. Answers how many. Nothing needs
/// to be logged: until a put has used such a slot, the next opening tests it, too.
pub(crate) fn retest(
    engine: &dyn Engine,
    geometry: &Geometry,
    index: &Index,
    bad: &mut Vec<u32>,
    options: &StoreOptions,
) -> usize {
    bad.sort_unstable();
    bad.dedup();
    bad.retain(|slot| index.is_bad(SlotId(*slot)));
    if bad.is_empty() {
        return 0;
    }
    // A queue of its own: a slot may be bad because requests to it hang. Without one they stay bad.
    let Ok(mut io) = MetaIo::of_store(engine, 4 * STEP as usize, 4, options) else {
        return 0;
    };
    let until = options.clock.now().saturating_add(TIME);
    let mut good = Vec::new();
    for &slot in &*bad {
        match takes_writes(&mut io, geometry, slot, options.clock.as_ref(), until) {
            Ok(true) => good.push(slot),
            Ok(false) => {}
            // The device answers no more, or the time is over.
            Err(_) => break,
        }
    }
    // One for all: what a slot took may be lost in the device's cache otherwise, unread.
    if good.is_empty() || io.flush().is_err() {
        return 0;
    }
    good.retain(|slot| index.forgive_bad(SlotId(*slot)));
    bad.retain(|slot| !good.contains(slot));
    good.len()
}

/// Whether the device takes each byte of a slot, and gives it back.
fn takes_writes(
    io: &mut MetaIo,
    geometry: &Geometry,
    slot: u32,
    clock: &dyn Clock,
    until: Duration,
) -> Result<bool, Error> {
    let place = geometry.slot_offset(slot).zip(geometry.slot_capacity(slot));
    let (offset, capacity) = place.expect("a bad slot is one of the store's");
    let bytes = FORMAT_BLOCK as u64 + capacity;
    let pattern = vec![PATTERN; STEP.min(bytes) as usize];
    for at in (0..bytes).step_by(STEP as usize) {
        if clock.now() > until {
            return Err(Error::TimedOut { waited: TIME });
        }
        let part = &pattern[..STEP.min(bytes - at) as usize];
        if !io.write_each(&[(offset + at, part)])?.is_empty() {
            return Ok(false);
        }
        match io.read(offset + at, part.len()) {
            Ok(read) if read[..part.len()] == *part => {}
            Err(error) if !error.is_answer_for_place() => return Err(error),
            Ok(_) | Err(_) => return Ok(false),
        }
    }
    Ok(true)
}
