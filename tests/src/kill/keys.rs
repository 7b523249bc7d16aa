//! The keys and slots of a kill run. Keys come in eights: three small, which always have room, so that
//! none can be evicted; four large, which have not; and one that is now small, now large.

use rb_core::{ClassRequest, Share};

/// The number of a key.
pub(super) type Key = u64;

/// Threads of the child. Each owns every third eight of keys; the last eight is everybody's.
pub(super) const THREADS: u64 = 3;
pub(super) const KEYS: Key = 80;
/// Most keys of one operation.
pub(super) const BATCH: u64 = 6;

/// Slots of 4 KiB: one for every key that may be small, and for every put that may be under way.
const SMALL_SLOTS: u64 = KEYS / 2 + 4 * THREADS * BATCH;
/// Slots of 16 KiB, about half of what the keys want.
const LARGE_SLOTS: u64 = 24;

pub(super) fn classes() -> Vec<ClassRequest> {
    [(4096, SMALL_SLOTS), (16 << 10, LARGE_SLOTS)]
        .map(|(slot_bytes, slots)| ClassRequest {
            slot_bytes,
            share: Share::Slots(slots),
        })
        .to_vec()
}

/// The key's bytes: long enough that the log goes round often.
pub(super) fn name(key: Key) -> Vec<u8> {
    format!("{key:->60}").into_bytes()
}

/// The number of a name.
pub(super) fn number(name: &[u8]) -> Option<Key> {
    std::str::from_utf8(name)
        .ok()?
        .trim_start_matches('-')
        .parse()
        .ok()
}

/// Whether a put may ever take this key's slot.
pub(super) fn is_evictable(key: Key) -> bool {
    key % 8 >= 3
}

/// Length of a version in bytes.
pub(super) fn value_len(key: Key, version: u64) -> usize {
    let spread = (version.wrapping_mul(0x9E37_79B9) >> 7) as usize;
    let is_small = key % 8 < 3 || key % 8 == 7 && version.is_multiple_of(2);
    if is_small {
        24 + spread % 4073
    } else {
        4097 + spread % 12_000
    }
}

/// A key that this thread may use: one of its own, or now and then one of everybody's.
pub(super) fn pick(thread: u64, random: &mut impl FnMut(u64) -> u64) -> Key {
    let own_eights = KEYS / 8 - 1;
    let eight = if random(8) == 0 {
        own_eights
    } else {
        random(own_eights / THREADS) * THREADS + thread
    };
    8 * eight + random(8)
}
