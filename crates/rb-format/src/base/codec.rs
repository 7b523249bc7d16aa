//! Compression of sections.

use super::section::bytes::{SectionBytes, WHAT};
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

/// Memory that the decoding of sections reuses from one to the next: a section's is large enough to be mapped
/// and unmapped each time, which costs more than decompressing into it.
#[derive(Default)]
pub struct SectionScratch {
    #[cfg(feature = "zstd")]
    raw: Vec<u8>,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl std::fmt::Debug for SectionScratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SectionScratch")
    }
}

#[cfg(feature = "zstd")]
impl SectionScratch {
    /// Decompresses a zstd frame of exactly `raw_len` bytes, allocating no more than those.
    pub(super) fn decompress(
        &mut self,
        stored: &[u8],
        raw_len: usize,
    ) -> Result<&[u8], Corruption> {
        let failed = |error: std::io::Error| Corruption::Codec {
            what: WHAT,
            codec: "zstd",
            reason: error.to_string(),
        };
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(failed)?),
        };
        if self.raw.len() < raw_len {
            self.raw.resize(raw_len, 0);
        }
        let raw = &mut self.raw[..raw_len];
        let len = zstd.decompress_to_buffer(stored, raw).map_err(failed)?;
        crate::corruption::equals(WHAT, "decompressed length", raw_len as u64, len as u64)?;
        Ok(raw)
    }
}

#[cfg(not(feature = "zstd"))]
impl SectionScratch {
    pub(super) fn decompress(&mut self, _: &[u8], _: usize) -> Result<&[u8], Corruption> {
        Err(Corruption::CodecDisabled {
            what: WHAT,
            codec: "zstd",
        })
    }
}
