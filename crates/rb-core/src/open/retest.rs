//! Retests bad slots, so that a device that failed temporarily, or was replaced, gets its slots
//! back.

use std::time::Duration;

use rb_format::{FORMAT_BLOCK, Geometry};
use rb_index::{Index, SlotId};
use rb_io::Engine;

use crate::clock::Clock;
use crate::error::Error;
use crate::io::meta_io::MetaIo;
use crate::options::StoreOptions;

/// Bytes written and read back per request.
const STEP: u64 = 1 << 20;
/// Longest time one session spends on tests; a later one tests the rest.
const TIME: Duration = Duration::from_secs(1);
/// Test pattern: not a valid header, and not what a device is likely to return after losing a
/// write.
const PATTERN: u8 = 0xa5;

/// Frees the bad slots that take a write of all their bytes and removes them from `bad`. Returns
/// their number. Nothing is logged: until a put uses such a slot, the next session tests it again.
pub(crate) fn retest(
    engine: &dyn Engine,
    geometry: &Geometry,
    index: &Index,
    bad: &mut Vec<u32>,
    options: &StoreOptions,
) -> usize {
    bad.sort_unstable();
    bad.dedup();
    // An entry may hold a slot that the metadata lists as bad.
    bad.retain(|slot| index.is_bad(SlotId(*slot)));
    if bad.is_empty() {
        return 0;
    }
    // A queue of its own: requests to a bad slot may hang. Without a queue the slots stay bad.
    let Ok(mut io) = MetaIo::of_store(engine, 4 * STEP as usize, 4, options) else {
        return 0;
    };
    let until = options.clock.now().saturating_add(TIME);
    let mut good = Vec::new();
    for &slot in &*bad {
        match takes_writes(&mut io, geometry, slot, options.clock.as_ref(), until) {
            Ok(true) => good.push(slot),
            Ok(false) => {}
            // The device does not respond any more, or time is up.
            Err(_) => break,
        }
    }
    // One flush for all: a write that only reached the device's cache proves nothing.
    if good.is_empty() || io.flush().is_err() {
        return 0;
    }
    good.retain(|slot| index.forgive_bad(SlotId(*slot)));
    bad.retain(|slot| !good.contains(slot));
    good.len()
}

/// Returns whether the device takes and returns every byte of a slot.
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
