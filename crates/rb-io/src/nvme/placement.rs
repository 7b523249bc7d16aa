//! The placement handles of a namespace: flexible data placement, TP4146, which is base
//! specification 2.1 section 7.3.1.1 (reclaim unit handle status).
//!
//! The log is read twice, first its header and then exactly as many handles as exist: if the kernel
//! describes memory by SGL, a controller may refuse memory that is longer than the data. QEMU's did
//! (Linux 6.12, status 0Fh), and no placement was found.

/// Bytes before the descriptors: reserved, then their number.
pub(crate) const HEAD_BYTES: usize = 16;

/// A namespace has at most this many handles.
const HANDLES_MAX: usize = 128;
const DESCRIPTOR_BYTES: usize = 32;

/// Returns the size of the whole data structure in bytes, computed from its header.
pub(crate) fn answer_bytes(head: &[u8; HEAD_BYTES]) -> usize {
    let count = usize::from(u16::from_le_bytes([head[14], head[15]]));
    HEAD_BYTES + count.min(HANDLES_MAX) * DESCRIPTOR_BYTES
}

/// Returns the placement identifier of each handle, in order.
pub(crate) fn identifiers(answer: &[u8]) -> Vec<u16> {
    let descriptors = answer.get(HEAD_BYTES..).unwrap_or_default();
    descriptors
        .chunks_exact(DESCRIPTOR_BYTES)
        .map(|descriptor| u16::from_le_bytes([descriptor[0], descriptor[1]]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_descriptor_begins_with_its_identifier() {
        let mut answer = [0; HEAD_BYTES + 2 * DESCRIPTOR_BYTES];
        answer[14] = 2;
        answer[16] = 5;
        answer[48..50].copy_from_slice(&[1, 2]);
        let mut head: [u8; HEAD_BYTES] = answer[..HEAD_BYTES].try_into().unwrap();
        assert_eq!(answer_bytes(&head), answer.len());
        assert_eq!(identifiers(&answer), [5, 0x201]);
        assert_eq!(identifiers(&answer[..HEAD_BYTES]), [0; 0]);
        // More than a namespace can have.
        head[15] = 255;
        assert_eq!(answer_bytes(&head), HEAD_BYTES + 128 * DESCRIPTOR_BYTES);
    }
}
