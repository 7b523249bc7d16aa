//! Every magic number of the format in one list, so that no two structures can share one.
//!
//! A magic is the first eight bytes of its structure. The checkpoint directory does not store one:
//! its magic is only the first input of its checksum, which keeps a directory from being mistaken
//! for another structure.

/// Superblock, copies A and B.
pub const MAGIC_SUPERBLOCK: [u8; 8] = *b"rbSUPERB";
/// Incarnation block, A and B.
pub const MAGIC_INCARNATION: [u8; 8] = *b"rbINCARN";
/// Slot header.
pub const MAGIC_SLOT_HEADER: [u8; 8] = *b"rbSLOTHD";
/// Continuation header: in front of a further slot of a value.
pub const MAGIC_CONTINUATION: [u8; 8] = *b"rbSLOTCN";
/// Delta log block.
pub const MAGIC_LOG_BLOCK: [u8; 8] = *b"rbLOGBLK";
/// Checkpoint base header.
pub const MAGIC_BASE_HEADER: [u8; 8] = *b"rbBASEHD";
/// Checkpoint directory (only in its checksum).
pub const MAGIC_DIRECTORY: [u8; 8] = *b"rbBASEDR";
/// State of the eviction policy.
pub const MAGIC_POLICY_STATE: [u8; 8] = *b"rbPOLICY";
/// Checkpoint section.
pub const MAGIC_SECTION: [u8; 8] = *b"rbBASESC";

/// All of them. A test checks that they differ.
pub const ALL: [[u8; 8]; 9] = [
    MAGIC_SUPERBLOCK,
    MAGIC_INCARNATION,
    MAGIC_SLOT_HEADER,
    MAGIC_CONTINUATION,
    MAGIC_LOG_BLOCK,
    MAGIC_BASE_HEADER,
    MAGIC_DIRECTORY,
    MAGIC_SECTION,
    MAGIC_POLICY_STATE,
];

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn all_magics_differ_and_none_is_zero() {
        for (i, a) in ALL.iter().enumerate() {
            assert_ne!(a, &[0; 8], "zero means that nothing was written");
            assert!(
                ALL[i + 1..].iter().all(|b| a != b),
                "magic {a:?} is used twice"
            );
        }
    }
}
