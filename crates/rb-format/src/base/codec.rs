//! Compression of sections.

use super::section::SectionBytes;
#[cfg(feature = "zstd")]
use super::section::WHAT;
#[cfg(feature = "zstd")]
use crate::Corruption;

/// How a section is compressed when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// By zstd; a build without the feature `zstd` writes plain sections instead. A section
    /// that zstd cannot make smaller is stored plain, too.
    Zstd {
        /// zstd's level, 1 (fast) to 22; others are what zstd takes them for.
        level: i32,
    },
}

/// Plain section body.
pub(super) const CODEC_PLAIN: u32 = 0;
/// One zstd frame. Source: RFC 8878.
pub(super) const CODEC_ZSTD: u32 = 1;

/// The most bytes that a section of `raw_len` is stored in. Stored plain where compression does
/// not help, a section is never longer than its header and its raw bytes.
pub(super) fn stored_len_max(raw_len: u64) -> u64 {
    size_of::<SectionBytes>() as u64 + raw_len
}

/// The compressed form, if it is wanted, possible and shorter.
pub(super) fn compress(raw: &[u8], compression: Compression) -> Option<Vec<u8>> {
    match compression {
        Compression::Plain => None,
        Compression::Zstd { level } => zstd_compress(raw, level),
    }
}

#[cfg(feature = "zstd")]
fn zstd_compress(raw: &[u8], level: i32) -> Option<Vec<u8>> {
    // Compressing memory to memory can only fail for want of memory; plain is right then, too.
    let stored = zstd::bulk::compress(raw, level).ok()?;
    (stored.len() < raw.len()).then_some(stored)
}

#[cfg(not(feature = "zstd"))]
fn zstd_compress(_raw: &[u8], _level: i32) -> Option<Vec<u8>> {
    None
}

/// Decompresses a zstd frame of exactly `raw_len` bytes, allocating no more than those.
#[cfg(feature = "zstd")]
pub(super) fn zstd_decompress(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, Corruption> {
    let mut raw = vec![0; raw_len];
    let decompressed = zstd::bulk::decompress_to_buffer(stored, raw.as_mut_slice());
    let len = decompressed.map_err(|error| Corruption::Codec {
        what: WHAT,
        codec: "zstd",
        reason: error.to_string(),
    })?;
    crate::corruption::equals(WHAT, "decompressed length", raw_len as u64, len as u64)?;
    Ok(raw)
}
