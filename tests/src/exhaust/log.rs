//! Reads the log of an image.

use std::collections::{BTreeMap, HashMap};

use rb_format::{BaseHeader, FORMAT_BLOCK, LogBlock, LogPosition, Record, Superblock};
use rb_testkit::CrashImage;

/// Walks the log of an image from the older of its bases to its end. Returns the payload checksum of each put, by first
/// slot and generation.
///
/// In log order the generations of each slot must ascend: recovery relies on it, because of two claims on a slot the
/// higher generation wins.
pub(super) fn read_log(
    image: &CrashImage,
    layout: &Superblock,
) -> Result<HashMap<(u32, u64), u64>, String> {
    let mut block = [0; FORMAT_BLOCK];
    let mut positions: Vec<LogPosition> = Vec::new();
    for region in layout.bases() {
        image.read(region.offset, &mut block);
        let header = BaseHeader::decode(&block, &layout.identity);
        positions.extend(header.ok().map(|header| header.position));
    }
    positions.sort_by_key(|position| position.sequence);
    let mut from = positions.first().copied().unwrap_or(LogPosition::FIRST);
    let (mut checksums, mut owners) = (HashMap::new(), BTreeMap::new());
    for _ in 0..layout.log_blocks() {
        // In either ring.
        let mut blocks = [[0; FORMAT_BLOCK]; 2];
        let offsets = layout.log_block_offsets(from.sequence);
        let mut found = None;
        for (block, offset) in blocks.iter_mut().zip(offsets) {
            image.read(offset, block);
            let decoded = LogBlock::decode(block, &layout.identity).ok();
            found = found.or(decoded.filter(|decoded| decoded.continues(&from)));
        }
        let Some(found) = found else { break };
        for record in found.records() {
            let Record::Put {
                slot,
                more,
                generation,
                payload_checksum,
                ..
            } = record
            else {
                continue;
            };
            checksums.insert((slot, generation.0), payload_checksum);
            for slot in std::iter::once(slot).chain(more.iter()) {
                if let Some(former) = owners.insert(slot, generation.0)
                    && former >= generation.0
                {
                    return Err(format!(
                        "the log has generation {} of slot {slot} after generation {former}",
                        generation.0
                    ));
                }
            }
        }
        from = found.position();
    }
    Ok(checksums)
}
