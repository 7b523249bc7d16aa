//! Everything that a crash can leave of unflushed writes.
//!
//! The unit is a block of 4096 bytes: of each block that has pending writes the crash keeps the durable content or any
//! of the writes, independently of other blocks, even of the same request. That is more than a device does that keeps
//! requests whole. A block may be torn as well: its first sector of 512 bytes is of a write and the rest is what was
//! there before. Every structure has a checksum over its whole block, or its whole value, so a torn block is neither
//! the old nor the new one to its reader, regardless of the position of the tear; the first sector has the fields that
//! identify the structure, so only the checksum reveals that the rest is wrong. At most one block of the metadata is
//! torn, and one of each slot: a second one would be treated like a lost one.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use rb_format::FORMAT_BLOCK;
use rb_testkit::{CrashImage, CrashPoints};

const SECTOR: usize = 512;

/// A block with pending writes.
struct Spot {
    offset: u64,
    /// Possible contents; the durable one first.
    contents: Vec<Content>,
}

struct Content {
    bytes: Vec<u8>,
    torn: bool,
    words: String,
}

/// A choice among the contents of all blocks with pending writes: a number for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kept(Vec<usize>);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        match numbers.is_empty() {
            true => f.write_str("none"),
            false => f.write_str(&numbers.join(",")),
        }
    }
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Kept, String> {
        if text == "none" {
            return Ok(Kept(Vec::new()));
        }
        let numbers: Result<_, _> = text.split(',').map(str::parse).collect();
        let wrong = |why| format!("expected none or a list of numbers: {why}");
        numbers.map(Kept).map_err(wrong)
    }
}

/// The blocks with pending writes of a crash point, in the order of their offsets.
pub(super) struct Spots<'a> {
    points: &'a CrashPoints,
    all: Vec<Spot>,
}

impl Spots<'_> {
    pub(super) fn new(points: &CrashPoints) -> Spots<'_> {
        let mut offsets: Vec<u64> = Vec::new();
        for write in points.pending() {
            let end = write.offset + write.bytes().len() as u64;
            offsets.extend((write.offset..end).step_by(FORMAT_BLOCK));
        }
        offsets.sort_unstable();
        offsets.dedup();
        let all = offsets.into_iter().map(|offset| Spot::new(points, offset));
        let all = all.collect();
        Spots { points, all }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns whether this is a choice among the contents of these spots.
    pub(super) fn has(&self, kept: &Kept) -> bool {
        let mut both = self.all.iter().zip(&kept.0);
        kept.0.len() == self.all.len() && both.all(|(spot, number)| *number < spot.contents.len())
    }

    /// Returns the spots in a range of the device.
    pub(super) fn within(&self, range: Range<u64>) -> Range<usize> {
        let from = self.all.partition_point(|spot| spot.offset < range.start);
        let to = self.all.partition_point(|spot| spot.offset < range.end);
        from..to
    }

    /// Returns the choice that keeps no pending write.
    pub(super) fn nothing(&self) -> Kept {
        Kept(vec![0; self.all.len()])
    }

    /// Returns every choice among the contents of these spots, at most one of them torn. Other spots are as in `kept`.
    pub(super) fn choices(&self, spots: impl IntoIterator<Item = usize>, kept: &Kept) -> Vec<Kept> {
        let mut choices = vec![(kept.clone(), false)];
        for spot in spots {
            let contents = self.all[spot].contents.iter().enumerate();
            choices = contents
                .flat_map(|(number, content)| {
                    let able = choices.iter().filter(|(_, torn)| !(*torn && content.torn));
                    able.map(move |(kept, torn)| {
                        let mut kept = kept.clone();
                        kept.0[spot] = number;
                        (kept, torn | content.torn)
                    })
                })
                .collect();
        }
        choices.into_iter().map(|(kept, _)| kept).collect()
    }

    /// Returns the image of a choice.
    pub(super) fn image(&self, kept: &Kept) -> CrashImage {
        let chosen = self
            .all
            .iter()
            .zip(&kept.0)
            .filter(|(_, number)| **number > 0);
        self.points.image_with(
            chosen.map(|(spot, number)| (spot.offset, &spot.contents[*number].bytes[..])),
        )
    }

    /// Returns the bytes of a range of whole blocks.
    pub(super) fn bytes(&self, range: Range<u64>, kept: &Kept) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.points.read_durable(range.start, &mut bytes);
        for at in self.within(range.clone()) {
            let spot = &self.all[at];
            let from = (spot.offset - range.start) as usize;
            bytes[from..from + FORMAT_BLOCK].copy_from_slice(&spot.contents[kept.0[at]].bytes);
        }
        bytes
    }

    /// Describes a choice.
    pub(super) fn words(&self, kept: &Kept) -> String {
        let blocks = self.all.iter().zip(&kept.0).map(|(spot, number)| {
            let words = &spot.contents[*number].words;
            format!("the block at byte {} {words}", spot.offset)
        });
        let blocks: Vec<_> = blocks.collect();
        match blocks.is_empty() {
            true => "nothing is pending".into(),
            false => blocks.join(", "),
        }
    }
}

impl Spot {
    fn new(points: &CrashPoints, offset: u64) -> Spot {
        let mut durable = vec![0; FORMAT_BLOCK];
        points.read_durable(offset, &mut durable);
        let mut spot = Spot {
            offset,
            contents: Vec::new(),
        };
        spot.add(durable, false, "is unchanged".into());
        for (number, write) in points.pending().iter().enumerate() {
            let end = write.offset + write.bytes().len() as u64;
            if offset < write.offset || offset + FORMAT_BLOCK as u64 > end {
                continue;
            }
            let at = (offset - write.offset) as usize;
            let new = &write.bytes()[at..at + FORMAT_BLOCK];
            for before in 0..spot.contents.len() {
                if !spot.contents[before].torn {
                    let mut torn = spot.contents[before].bytes.clone();
                    torn[..SECTOR].copy_from_slice(&new[..SECTOR]);
                    let words = format!("has the first sector of pending write {number}");
                    spot.add(torn, true, words);
                }
            }
            spot.add(
                new.to_vec(),
                false,
                format!("is as in pending write {number}"),
            );
        }
        spot
    }

    fn add(&mut self, bytes: Vec<u8>, torn: bool, words: String) {
        let same = self
            .contents
            .iter_mut()
            .find(|content| content.bytes == bytes);
        match same {
            // The same bytes without a tear.
            Some(same) => same.torn &= torn,
            None => self.contents.push(Content { bytes, torn, words }),
        }
    }
}
