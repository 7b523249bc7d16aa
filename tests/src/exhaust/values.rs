//! Keys and values: every version of a value has distinct bytes.

use rb_core::EntryInfo;

use super::config::{Operation, SLOT_BYTES};
use super::oracle::{FIRST_INITIAL, FIRST_LARGE, Version, slots_of};

/// Length of a value: several sectors, and not the whole block.
const VALUE_LEN: usize = 2000;
/// Length of a value of two slots.
const LARGE_LEN: usize = SLOT_BYTES as usize + VALUE_LEN;

/// Returns the key's name.
pub(super) fn name(key: usize) -> [u8; 4] {
    // One in each of two shards.
    [b"a000", b"b000"][key].to_owned()
}

pub(super) fn number(name: &[u8]) -> usize {
    usize::from(name[0] - b'a')
}

/// Returns the bytes of a version.
pub(super) fn value(version: Version) -> Vec<u8> {
    let len = match slots_of(version) {
        2.. => LARGE_LEN,
        _ => VALUE_LEN,
    };
    let mut bytes = vec![version; len];
    (0_u8..)
        .zip(bytes.chunks_mut(512))
        .for_each(|(at, sector)| sector[0] ^= at.wrapping_add(1));
    bytes
}

/// Returns the version of the value of the operation with this number.
pub(super) fn version_of(operation: Operation, number: usize) -> Version {
    let first = match operation.slots() {
        2.. => FIRST_LARGE,
        _ => 0,
    };
    first + number as Version + 1
}

/// Returns the version of a key's initial value.
pub(super) fn initial_version(key: usize) -> Version {
    key as Version + FIRST_INITIAL
}

/// Returns all slots of an entry, in the order of its bytes.
pub(super) fn all_slots(entry: &EntryInfo) -> Vec<u32> {
    let more = entry.more_slots.iter().copied();
    std::iter::once(entry.slot).chain(more).collect()
}
