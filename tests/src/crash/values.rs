//! Keys and values: every version of a value has distinct bytes.

use rb_core::EntryInfo;
use rb_testkit::values::{fill, matches, next_number};

use super::version::{ABSENT, KEYS, Version};

/// Capacities of the store's classes in bytes.
pub(super) const CLASSES: [u64; 2] = [4096, 8192];

/// Maximum number of slots of a value.
const SLOTS_MAX: usize = 5;

/// Returns the length of a version's value: most are small, of any length; some need the larger class, and one in seven
/// needs several of its slots.
fn length(version: Version) -> usize {
    let mut random = u64::from(version);
    let number = next_number(&mut random) as usize;
    if next_number(&mut random) % 7 == 3 {
        let slots = 2 + number % (SLOTS_MAX - 1);
        let largest = CLASSES[1] as usize;
        // Lengths at the boundary of a slot, and any.
        let last = match number / 64 % 3 {
            0 => 1,
            1 => largest,
            _ => 1 + number / 256 % largest,
        };
        return (slots - 1) * largest + last;
    }
    match number % 4 {
        0 => CLASSES[0] as usize + 1 + number / 4 % (CLASSES[1] - CLASSES[0]) as usize,
        1 => 100 + number / 4 % 400,
        _ => 100 + number / 4 % (CLASSES[0] as usize - 99),
    }
}

/// Returns the number of slots that a version's value fills; none if it is absent.
pub(super) fn slots_of(version: Version) -> usize {
    match version {
        ABSENT => 0,
        _ => length(version).div_ceil(CLASSES[1] as usize),
    }
}

/// Returns all slots of an entry, in the order of its bytes.
pub(super) fn all_slots(entry: &EntryInfo) -> Vec<u32> {
    let more = entry.more_slots.iter().copied();
    std::iter::once(entry.slot).chain(more).collect()
}

fn content(key: usize, version: Version) -> u64 {
    (key as u64) << 32 | u64::from(version)
}

/// Returns a version's bytes.
pub(super) fn value(key: usize, version: Version) -> Vec<u8> {
    let mut bytes = vec![0; length(version)];
    bytes[..4].copy_from_slice(&version.to_le_bytes());
    fill(content(key, version), &mut bytes[4..]);
    bytes
}

/// Returns which version below `next` the bytes are, if they were ever put for the key.
pub(super) fn version_of(key: usize, bytes: &[u8], next: Version) -> Option<Version> {
    let head = bytes.get(..4)?;
    let version = Version::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let rest = bytes.get(4..)?;
    let known = (ABSENT + 1..next).contains(&version);
    (known && bytes.len() == length(version) && matches(content(key, version), rest))
        .then_some(version)
}

/// Returns a key's name: every third is so long that three records fill a log block.
pub(super) fn name(key: usize) -> Vec<u8> {
    let mut name = vec![b'k'; if key.is_multiple_of(3) { 1000 } else { 8 }];
    name[0] = key as u8;
    name
}

/// Returns the key of a name.
pub(super) fn number(name: &[u8]) -> Option<usize> {
    name.first()
        .map(|key| usize::from(*key))
        .filter(|key| *key < KEYS)
}
