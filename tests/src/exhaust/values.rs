//! Keys and values: every version of a value has distinct bytes.

use super::oracle::Version;

/// Length of a value: several sectors, and not the whole block.
const VALUE_LEN: usize = 2000;

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
    let mut bytes = vec![version; VALUE_LEN];
    (0_u8..)
        .zip(bytes.chunks_mut(512))
        .for_each(|(at, sector)| sector[0] ^= at.wrapping_add(1));
    bytes
}

/// Returns the version of an operation's value.
pub(super) fn version_of(operation: usize) -> Version {
    operation as Version + 1
}

/// Returns the version of a key's initial value.
pub(super) fn initial_version(key: usize) -> Version {
    key as Version + 100
}
