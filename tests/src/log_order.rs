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
pub fn check(layout: &Superblock, read: impl Fn(u64, &mut [u8])) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rb_core::{
        Background, ClassRequest, FormatOptions, Share, Store, StoreOptions, format_engine,
    };
    use rb_format::{Generation, LogEncoder};
    use rb_io::Engine;
    use rb_testkit::{MemDevice, MemEngine};

    use super::*;

    /// A store whose slots are used in order; then a record of a slot with a generation below that of its owner.
    #[test]
    fn a_lower_generation_of_a_slot_is_found() {
        let (slot_bytes, share) = (4096, Share::Slots(8));
        let classes = vec![ClassRequest { slot_bytes, share }];
        let bytes = rb_format::device_bytes_for(&classes, 512, 0, None).unwrap();
        let device = MemDevice::new(bytes);
        let engine: Arc<dyn Engine> = Arc::new(MemEngine::new(Arc::clone(&device)));
        format_engine(&engine, &FormatOptions::new("", classes)).unwrap();
        let options = StoreOptions {
            background: Background::Manual,
            ..StoreOptions::default()
        };
        let store = Store::open_engine(engine, options).unwrap();
        for round in 0..3_u8 {
            for key in 0..6_u8 {
                store.put(&[key], &[round; 100]).unwrap();
            }
            store.sync().unwrap();
        }
        let layout = store.superblock().clone();
        let check = || check(&layout, |offset, bytes| device.peek(offset, bytes));
        assert_eq!(check(), Ok(()));
        let mut block = [0; FORMAT_BLOCK];
        let mut end = LogPosition::FIRST;
        loop {
            device.peek(log_block_offset(&layout.log, end.sequence), &mut block);
            match LogBlock::decode(&block, &layout.identity) {
                Ok(found) if found.continues(&end) => end = found.position(),
                _ => break,
            }
        }
        assert!(end.sequence > 2, "there is a log");
        let mut encoder = LogEncoder::new(layout.identity, 1, end);
        let record = Record::Put {
            key: b"k",
            slot: 0,
            generation: Generation(1),
            payload_len: 1,
            payload_checksum: 0,
            placement: 0,
            metadata: &[],
        };
        encoder.push(&record, 0);
        encoder.seal(0);
        device.poke(
            log_block_offset(&layout.log, end.sequence),
            &encoder.take_sealed().bytes,
        );
        let found = check().unwrap_err();
        assert!(
            found.starts_with("the log has generation 1 of slot 0 in block"),
            "{found}"
        );
    }
}
