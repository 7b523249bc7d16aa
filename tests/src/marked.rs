//! Values that identify themselves, so that a reader can check that a value is whole and belongs to its key.

use rb_core::{Payload, Store};
use rb_testkit::values::{fill, matches};

/// Bytes of the mark: key, version and length.
const MARK_BYTES: usize = 24;

/// Returns the value of a version of a key. `len` is in bytes, at least 24.
pub(crate) fn bytes_of(key: u64, version: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len.max(MARK_BYTES)];
    let mark = [key, version, bytes.len() as u64];
    for (place, number) in bytes.chunks_exact_mut(8).zip(mark) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    fill(content(mark), &mut bytes[MARK_BYTES..]);
    bytes
}

/// Returns which version of `key` these bytes are.
///
/// # Errors
/// If they are another key's bytes, or were never put.
pub(crate) fn version_of(key: u64, bytes: &[u8]) -> Result<u64, String> {
    let mut mark = [0; 3];
    if bytes.len() < MARK_BYTES {
        return Err(format!("key {key} has only {} bytes", bytes.len()));
    }
    for (number, place) in mark.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = place
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    }
    let [owner, version, len] = mark;
    if owner != key {
        return Err(format!("key {key} has bytes of key {owner}"));
    }
    if len != bytes.len() as u64 || !matches(content(mark), &bytes[MARK_BYTES..]) {
        return Err(format!("key {key} has bytes that were never put"));
    }
    Ok(version)
}

fn content([key, version, len]: [u64; 3]) -> u64 {
    (key << 40 | version) ^ len << 20
}

/// Returns a value to put, in the caller's memory or, if there is space, in the store's.
pub(crate) fn payload<'a>(store: &Store, bytes: &'a [u8], in_own_memory: bool) -> Payload<'a> {
    let buffer = in_own_memory.then(|| store.buffer(bytes.len()));
    match buffer {
        Some(Ok(mut buffer)) => {
            buffer.copy_from_slice(bytes);
            Payload::Buffer(buffer)
        }
        _ => Payload::Bytes(bytes),
    }
}
