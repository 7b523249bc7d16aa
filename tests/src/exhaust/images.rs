//! All that a crash can leave: of what is not flushed any blocks, and one of them torn.
//!
//! A pending write is cut into blocks of 4096 bytes, and any subset of the blocks of all pending writes may be kept. That
//! is more than a device does whose writes are whole. Every structure of the format is covered by a checksum per block
//! or per value, so a block that is torn is neither the old one nor the new one to its reader, wherever the tear is:
//! one variant of each torn block is enough, and it keeps the first sector of 512 bytes, the one with the header, so that
//! the rest must be noticed. Two torn blocks at once are left out: the second would only be missed as one that is lost
//! is, but for what had been there before.

use std::fmt;
use std::str::FromStr;

use rb_format::FORMAT_BLOCK;
use rb_testkit::{CrashImage, CrashPoints};

const SECTOR: usize = 512;
const SECTORS: usize = FORMAT_BLOCK / SECTOR;

/// Pending blocks at most: 2^BLOCKS_MAX subsets.
pub(super) const BLOCKS_MAX: usize = 12;

/// Which of the pending blocks are kept, and which is torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    blocks: u32,
    torn: Option<usize>,
}

impl fmt::Display for Kept {
    /// As `1011`, `10t1` or `none`: of each block, in the order of the writes, whether it is kept, torn or lost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = (u32::BITS - self.blocks.leading_zeros()) as usize;
        if count == 0 {
            return f.write_str("none");
        }
        (0..count).try_for_each(|block| {
            f.write_str(match self.blocks >> block & 1 {
                0 => "0",
                _ if self.torn == Some(block) => "t",
                _ => "1",
            })
        })
    }
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Kept, String> {
        let mut kept = Kept {
            blocks: 0,
            torn: None,
        };
        if text == "none" {
            return Ok(kept);
        }
        for (block, letter) in text.chars().take(BLOCKS_MAX).enumerate() {
            match letter {
                '0' => continue,
                't' => kept.torn = Some(block),
                '1' => {}
                _ => {
                    return Err(format!(
                        "{text}: what is kept is none, or 0, 1 or t for each block"
                    ));
                }
            }
            kept.blocks |= 1 << block;
        }
        Ok(kept)
    }
}

/// The pending blocks, each the number of its write and of the block in it.
pub(super) fn blocks(points: &CrashPoints) -> Vec<(usize, usize)> {
    let writes = points.pending().iter().enumerate();
    let of_write = writes.flat_map(|(write, pending)| {
        let count = pending.bytes().len().div_ceil(FORMAT_BLOCK);
        (0..count).map(move |block| (write, block))
    });
    of_write.collect()
}

/// Every choice among so many blocks.
pub(super) fn choices(blocks: usize) -> impl Iterator<Item = Kept> {
    let blocks = blocks.min(BLOCKS_MAX);
    (0..1_u32 << blocks).flat_map(move |kept| {
        let torn = (0..blocks)
            .filter(move |block| kept >> block & 1 == 1)
            .map(Some);
        [None]
            .into_iter()
            .chain(torn)
            .map(move |torn| Kept { blocks: kept, torn })
    })
}

/// What a crash leaves.
pub(super) fn image(points: &CrashPoints, blocks: &[(usize, usize)], kept: Kept) -> CrashImage {
    points.image_of(|write, sector| {
        let of = (write, sector / SECTORS);
        let number = blocks.iter().position(|block| *block == of);
        number.is_some_and(|number| {
            kept.blocks >> number & 1 == 1 && (kept.torn != Some(number) || sector % SECTORS == 0)
        })
    })
}

/// A choice, in words.
pub(super) fn words(points: &CrashPoints, kept: Kept) -> String {
    let blocks = blocks(points)
        .into_iter()
        .enumerate()
        .map(|(number, (write, block))| {
            let offset = points.pending()[write].offset + (block * FORMAT_BLOCK) as u64;
            let fate = match kept.blocks >> number & 1 {
                0 => "lost",
                _ if kept.torn == Some(number) => "torn",
                _ => "kept",
            };
            format!("the block at byte {offset} {fate}")
        });
    let blocks: Vec<_> = blocks.collect();
    match blocks.is_empty() {
        true => "nothing is pending".into(),
        false => blocks.join(", "),
    }
}
