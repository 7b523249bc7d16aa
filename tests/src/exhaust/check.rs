//! Opens what a crash left, and compares it with what is legal.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rb_core::Store;
use rb_format::{
    BaseHeader, FORMAT_BLOCK, Geometry, LogBlock, LogPosition, Record, SlotHeader, Superblock,
};
use rb_testkit::CrashImage;

use super::config::KEYS;
use super::oracle::{ABSENT, Candidate, Legal};
use super::world::{name, open, value};

/// Checks an image. `goes_on`: puts something, too, and crashes again.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn check(
    image: &CrashImage,
    layout: &Superblock,
    legal: &Legal,
    goes_on: bool,
) -> Result<(), String> {
    let checked = catch_unwind(AssertUnwindSafe(|| {
        let log = Log::read(image, layout)?;
        opens(image, layout, &log, legal, goes_on)
    }));
    checked.unwrap_or_else(|why| Err(format!("a panic: {}", crate::schedule::words(why.as_ref()))))
}

fn opens(
    image: &CrashImage,
    layout: &Superblock,
    log: &Log,
    legal: &Legal,
    goes_on: bool,
) -> Result<(), String> {
    let device = image.device();
    let store = open(&device, false, None).map_err(|why| format!("it does not open: {why}"))?;
    let report = store.recovery();
    if let Some(lost) = &report.lost_metadata {
        return Err(format!("the crash lost the metadata: {lost}"));
    }
    // A torn header is no base yet. A sound one must name what is there.
    if let Some(why) = report
        .base_damage
        .iter()
        .find(|why| !why.contains(": header"))
    {
        return Err(format!("the crash left a base that is not whole: {why}"));
    }
    for (key, candidates) in legal.iter().enumerate() {
        let found = found(&store, key)?;
        if !is_legal(image, layout, log, candidates, key, &found) {
            let found = found.map(|(bytes, generation)| (bytes.get(1).copied(), generation));
            return Err(format!(
                "key {key} is {found:?} (version, generation); legal is one of {candidates:?}; in the log are {:?}",
                log.puts
            ));
        }
    }
    store
        .audit()
        .map_err(|why| format!("the accounting: {why}"))?;
    if goes_on {
        let bytes = value(99);
        let put = store.put(&name(0), &bytes).and_then(|_| store.sync());
        put.map_err(|why| format!("it cannot be used: {why}"))?;
        let crashed = device.crash();
        drop(store);
        let again = open(&crashed, false, None);
        let again = again.map_err(|why| format!("it does not open a second time: {why}"))?;
        if found(&again, 0)?.map(|(bytes, _)| bytes) != Some(bytes) {
            return Err(
                "what was put and synced after the crash is not there after another".into(),
            );
        }
    }
    Ok(())
}

/// A key's bytes and generation.
fn found(store: &Store, key: usize) -> Result<Option<(Vec<u8>, u64)>, String> {
    let found = store
        .get(&name(key))
        .map_err(|why| format!("get of key {key}: {why}"))?;
    Ok(found.map(|found| (found.to_vec(), found.generation())))
}

fn is_legal(
    image: &CrashImage,
    layout: &Superblock,
    log: &Log,
    candidates: &[Candidate],
    key: usize,
    found: &Option<(Vec<u8>, u64)>,
) -> bool {
    candidates.iter().any(|candidate| match found {
        Some((bytes, generation)) => {
            candidate.version != ABSENT
                && candidate.generation == *generation
                && *bytes == value(candidate.version)
        }
        None => {
            candidate.may_miss
                || candidate.volatile && lost_bytes(image, layout, log, candidate, key)
        }
    })
}

/// Whether the record of a put reached the device and its bytes did not.
fn lost_bytes(
    image: &CrashImage,
    layout: &Superblock,
    log: &Log,
    candidate: &Candidate,
    key: usize,
) -> bool {
    let recorded = |slot: u32| {
        log.puts
            .contains(&(name(key)[0], slot, candidate.generation))
    };
    let Some(slot) = candidate.slot.filter(|slot| recorded(*slot)) else {
        return false;
    };
    let geometry = Geometry::new(layout);
    let mut header = [0; FORMAT_BLOCK];
    let mut bytes = value(candidate.version);
    image.read(geometry.slot_offset(slot).unwrap_or_default(), &mut header);
    image.read(
        geometry.payload_offset(slot).unwrap_or_default(),
        &mut bytes,
    );
    let proven = SlotHeader::decode(&header, &layout.identity)
        .is_ok_and(|header| header.generation.0 == candidate.generation);
    !proven || bytes != value(candidate.version)
}

/// The log of an image, from the older of its bases to its end.
struct Log {
    /// First byte of the key, slot and generation of each put.
    puts: Vec<(u8, u32, u64)>,
}

impl Log {
    /// Reads it. In its order the generations of each slot ascend: recovery relies on it, because of two claims on a
    /// slot the higher generation wins.
    fn read(image: &CrashImage, layout: &Superblock) -> Result<Log, String> {
        let mut block = [0; FORMAT_BLOCK];
        let mut positions: Vec<LogPosition> = Vec::new();
        for region in layout.bases() {
            image.read(region.offset, &mut block);
            let header = BaseHeader::decode(&block, &layout.identity);
            positions.extend(header.ok().map(|header| header.position));
        }
        positions.sort_by_key(|position| position.sequence);
        let mut from = positions.first().copied().unwrap_or(LogPosition::FIRST);
        let (mut puts, mut owners) = (Vec::new(), BTreeMap::new());
        for _ in 0..layout.log_blocks() {
            // In whichever ring it is.
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
                    key,
                    slot,
                    generation,
                    ..
                } = record
                else {
                    continue;
                };
                puts.push((key[0], slot, generation.0));
                if let Some(former) = owners.insert(slot, generation.0)
                    && former >= generation.0
                {
                    return Err(format!(
                        "the log has generation {} of slot {slot} after generation {former}",
                        generation.0
                    ));
                }
            }
            from = found.position();
        }
        Ok(Log { puts })
    }
}

const _: () = assert!(KEYS == 2, "names differ in their first byte");
