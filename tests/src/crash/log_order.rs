//! In the order of the log the generations of each slot ascend: a later owner of a slot drew its generation later.
//! Recovery relies on it, because of two claims on a slot the higher generation wins.

use std::collections::HashMap;

use rb_format::{
    BaseHeader, FORMAT_BLOCK, LogBlock, LogPosition, Record, Superblock, log_block_offset,
    log_blocks,
};

/// Walks the log of an image from the older of its bases to its end. `read` reads bytes of the image.
///
/// # Errors
/// The first slot whose generations do not ascend, in words.
pub(super) fn check(layout: &Superblock, read: impl Fn(u64, &mut [u8])) -> Result<(), String> {
    let mut block = [0; FORMAT_BLOCK];
    let mut from = LogPosition::FIRST;
    let mut bases = [&layout.base_a, &layout.base_b].map(|region| {
        read(region.offset, &mut block);
        let header = BaseHeader::decode(&block, &layout.identity);
        header.ok().map(|header| header.position)
    });
    bases.sort_by_key(|position| position.map(|position| position.sequence));
    if let Some(older) = bases.into_iter().flatten().next() {
        from = older;
    }
    let mut owners: HashMap<u32, (u64, u64)> = HashMap::new();
    for _ in 0..log_blocks(&layout.log) {
        read(log_block_offset(&layout.log, from.sequence), &mut block);
        let Ok(found) = LogBlock::decode(&block, &layout.identity) else {
            break;
        };
        if !found.continues(&from) {
            break;
        }
        for record in found.records() {
            let Record::Put {
                slot, generation, ..
            } = record
            else {
                continue;
            };
            let (sequence, generation) = (found.sequence, generation.0);
            if let Some((block, former)) = owners.insert(slot, (sequence, generation))
                && former >= generation
            {
                return Err(format!(
                    "the log has generation {generation} of slot {slot} in block {sequence}, after generation {former} in block {block}"
                ));
            }
        }
        from = found.position();
    }
    Ok(())
}
