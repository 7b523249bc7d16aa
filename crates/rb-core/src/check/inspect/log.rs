//! Shows the log with both rings.

use rb_format::{Corruption, FORMAT_BLOCK, FieldText, LogBlock, LogPosition, Structure};

use super::structure::{Inspected, Look};
use crate::error::OpenError;
use crate::io::headers::read_headers;
use crate::open::recover::no_base;
use crate::report::counted;

const RINGS: [usize; 2] = [1, 2];

impl Look<'_> {
    /// Shows the blocks from the newest base to the log's end. Without a base: every valid block of
    /// either ring.
    pub(super) fn log(&mut self) -> Result<Vec<Inspected>, OpenError> {
        let superblock = self.superblock;
        let headers = read_headers(&mut self.io, superblock).map_err(no_base)?;
        let mut at = headers.found.first().map(|base| base.header.position);
        let mut shown = Inspected::new("delta log".into(), superblock.log.offset);
        shown.notes.push(format!(
            "ring 2 starts at byte {}; every block is in the same place of both",
            superblock.log_2.offset
        ));
        shown.notes.push(match &at {
            Some(at) => format!("replay starts with block {}", at.sequence),
            None => {
                "no base says where replay starts: these are all sound blocks of the rings".into()
            }
        });
        let first = at.map_or(0, |at| at.sequence);
        for place in first..first.saturating_add(superblock.log_blocks()) {
            let copies = self.copies(place);
            let blocks = copies.each_ref().map(|copy| decoded(copy, superblock));
            // Without a base there is no chain to follow: take every valid block.
            let is_next = |block: &Result<LogBlock<'_>, String>| match (block, &at) {
                (Ok(block), Some(at)) => block.continues(at),
                (block, None) => block.is_ok(),
                (Err(_), _) => false,
            };
            let next = blocks.each_ref().map(is_next);
            let Some(ring) = next.iter().position(|next| *next) else {
                if let Some(position) = at {
                    for (block, ring) in blocks.iter().zip(RINGS) {
                        let why = ends_before(position, block);
                        let words = format!("the log ends before block {}", position.sequence);
                        shown.notes.push(format!("{words}: in ring {ring}, {why}"));
                    }
                    break;
                }
                continue;
            };
            let Ok(block) = &blocks[ring] else { continue };
            let same = blocks[1 - ring].as_ref().is_ok_and(|other| other == block);
            let rings = match same {
                true => "in both rings".to_owned(),
                false => format!("in ring {} only", RINGS[ring]),
            };
            shown.fields.push(FieldText {
                offset: superblock.log_block_offsets(place)[0] - superblock.log.offset,
                len: FORMAT_BLOCK as u64,
                name: format!("block {}", block.sequence),
                value: format!(
                    "opening {}, {}, durable to {}, {rings}",
                    block.incarnation,
                    counted(block.records().count() as u64, "record"),
                    block.durable
                ),
            });
            at = at.map(|_| block.position());
        }
        Ok(vec![shown])
    }

    /// Reads a block from both rings; an unreadable one as a message.
    fn copies(&mut self, sequence: u64) -> [Result<Vec<u8>, String>; 2] {
        self.superblock.log_block_offsets(sequence).map(|offset| {
            if self.is_cut(offset, FORMAT_BLOCK) {
                return Err(self.cut_text());
            }
            let read = self.io.read(offset, FORMAT_BLOCK);
            read.map(|bytes| bytes[..FORMAT_BLOCK].to_vec())
                .map_err(|_| format!("the block at byte {offset} cannot be read"))
        })
    }

    /// Shows one block in both rings.
    pub(super) fn log_block(&mut self, sequence: u64) -> Result<Vec<Inspected>, OpenError> {
        let identity = self.superblock.identity;
        let offsets = self.superblock.log_block_offsets(sequence);
        let mut blocks = Vec::with_capacity(2);
        for (offset, ring) in offsets.into_iter().zip(RINGS) {
            let mut found = None;
            let title = format!("log block {sequence} in ring {ring}");
            let mut shown = self.block(title, offset, Structure::LogBlock, |bytes| {
                found = Some(LogBlock::decode(bytes, &identity)?.sequence);
                Ok(())
            })?;
            if let Some(other) = found.filter(|found| *found != sequence) {
                shown
                    .notes
                    .push(format!("block {other} is in this place of the ring"));
            }
            blocks.push(shown);
        }
        Ok(blocks)
    }
}

fn decoded<'a>(
    copy: &'a Result<Vec<u8>, String>,
    superblock: &rb_format::Superblock,
) -> Result<LogBlock<'a>, String> {
    let bytes = copy.as_ref().map_err(String::clone)?;
    LogBlock::decode(bytes, &superblock.identity).map_err(|why: Corruption| why.reason())
}

/// Describes why the block in the next place does not continue the log.
fn ends_before(position: LogPosition, decoded: &Result<LogBlock<'_>, String>) -> String {
    match decoded {
        Err(why) => why.clone(),
        Ok(block) => format!(
            "in its place is block {} with predecessor {:#x}, the one before has {:#x}",
            block.sequence, block.predecessor, position.anchor
        ),
    }
}
