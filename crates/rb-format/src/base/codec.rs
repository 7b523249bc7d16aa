//! Compresses and decompresses sections.

use super::section::bytes::{SectionBytes, WHAT};
use crate::Corruption;

/// Compression of sections on write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    Plain,
    /// zstd. A build without the feature `zstd` writes plain sections instead. A section that zstd
    /// cannot make smaller is also stored plain.
    Zstd {
        /// zstd's level, 1 (fast) to 22; zstd clamps other values.
        level: i32,
    },
}

/// Plain section body.
pub(super) const CODEC_PLAIN: u32 = 0;
/// One zstd frame. Source: RFC 8878.
pub(super) const CODEC_ZSTD: u32 = 1;

/// Returns the largest stored size of a section with `raw_len` raw bytes. A section that
/// compression does not shrink is stored plain, so it is never longer than its header and its raw
/// bytes.
pub(super) fn stored_len_max(raw_len: u64) -> u64 {
    size_of::<SectionBytes>() as u64 + raw_len
}

/// Returns the compressed form, if compression is enabled, available and shortens the section.
pub(super) fn compress(raw: &[u8], compression: Compression) -> Option<Vec<u8>> {
    match compression {
        Compression::Plain => None,
        Compression::Zstd { level } => zstd_compress(raw, level),
    }
}

#[cfg(feature = "zstd")]
fn zstd_compress(raw: &[u8], level: i32) -> Option<Vec<u8>> {
    // Memory-to-memory compression can fail only for lack of memory; plain is right in that case
    // too.
    let stored = zstd::bulk::compress(raw, level).ok()?;
    (stored.len() < raw.len()).then_some(stored)
}

#[cfg(not(feature = "zstd"))]
fn zstd_compress(_raw: &[u8], _level: i32) -> Option<Vec<u8>> {
    None
}

/// Memory that section decoding reuses from one section to the next. A section is large enough to
/// be mapped and unmapped on each allocation, which costs more than decompressing into it.
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
    /// Decompresses a zstd frame of exactly `raw_len` bytes, allocating no more than that.
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
