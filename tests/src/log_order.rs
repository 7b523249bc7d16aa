//! Reads the records of a store's log from its file, without the store, and checks their order.
//!
//! A slot has one owner at a time, and each owner draws its generation while it owns the slot. So, in log order, the
//! generations of each slot ascend. If they do not, recovery, which lets the highest generation of a slot win, drops an
//! acknowledged value.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rb_format::{
    BaseHeader, FORMAT_BLOCK, Generation, LogBlock, LogPosition, Record, SUPERBLOCK_A_OFFSET,
    SUPERBLOCK_B_OFFSET, Superblock, log_block_offset, log_blocks,
};

/// A put or remove record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Sequence of its block.
    pub block: u64,
    /// The key.
    pub key: Vec<u8>,
    /// The slots of a put, in order; none for a remove.
    pub slots: Vec<u32>,
    /// Its generation.
    pub generation: Generation,
}

impl fmt::Display for LogRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        write!(f, "block {}: ", self.block)?;
        match &self.slots[..] {
            [] => write!(f, "remove of {key}, ")?,
            [slot] => write!(f, "put of {key} in slot {slot}, ")?,
            slots => write!(f, "put of {key} in slots {slots:?}, ")?,
        }
        write!(f, "generation {}", self.generation)
    }
}

/// The log of a store.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its put and remove records, in log order.
    pub records: Vec<LogRecord>,
    /// Sequence of the block after its last.
    pub end: u64,
    /// Number of blocks of its ring.
    pub ring: u64,
}

/// Two puts into one slot whose generations do not ascend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disorder {
    /// The former owner, according to the log.
    pub former: LogRecord,
    /// The later owner, with a lower or the same generation.
    pub later: LogRecord,
}

impl fmt::Display for Disorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Disorder { former, later } = self;
        write!(f, "the log is out of order: {former}; then {later}")
    }
}

/// Reads the log of the store at `path`: the chain of blocks from the position of the older base. The store must not be
/// in use.
///
/// # Errors
/// If no superblock or no base is usable, or the file cannot be read.
pub fn read_log(path: &Path) -> Result<Log, String> {
    let file = File::open(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let superblock = superblock(&file)?;
    let mut at = older_base(&file, &superblock)?;
    let ring = log_blocks(&superblock.log);
    let limit = at.sequence + ring;
    let mut records = Vec::new();
    while at.sequence < limit {
        let bytes = block_at(&file, log_block_offset(&superblock.log, at.sequence))?;
        let Ok(block) = LogBlock::decode(&bytes, &superblock.identity) else {
            break;
        };
        if !block.continues(&at) {
            break;
        }
        at = block.position();
        records.extend(block.records().filter_map(|record| {
            let (key, slots, generation) = match record {
                Record::Put {
                    key,
                    slot,
                    more,
                    generation,
                    ..
                } => {
                    let slots = std::iter::once(slot).chain(more.iter());
                    (key, slots.collect(), generation)
                }
                Record::Remove {
                    key, generation, ..
                } => (key, Vec::new(), generation),
                _ => return None,
            };
            Some(LogRecord {
                block: block.sequence,
                key: key.to_vec(),
                slots,
                generation,
            })
        }));
    }
    Ok(Log {
        records,
        end: at.sequence,
        ring,
    })
}

/// Returns the first two puts into one slot, in log order, whose generations do not ascend.
#[must_use]
pub fn first_disorder(records: &[LogRecord]) -> Option<Disorder> {
    let mut owners: BTreeMap<u32, &LogRecord> = BTreeMap::new();
    let mut each = records
        .iter()
        .flat_map(|record| record.slots.iter().map(move |slot| (*slot, record)));
    each.find_map(|(slot, record)| {
        let former = owners.insert(slot, record)?;
        (former.generation >= record.generation).then(|| Disorder {
            former: former.clone(),
            later: record.clone(),
        })
    })
}

/// Returns the higher of the usable copies.
fn superblock(file: &File) -> Result<Superblock, String> {
    let mut usable = Vec::new();
    for offset in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
        usable.extend(Superblock::decode(&block_at(file, offset)?).ok());
    }
    let newest = usable.into_iter().max_by_key(|copy| copy.sequence);
    newest.ok_or_else(|| "no superblock is usable".into())
}

/// Returns where the log of the older base begins, or of the only one.
fn older_base(file: &File, superblock: &Superblock) -> Result<LogPosition, String> {
    let mut positions = Vec::new();
    for region in [&superblock.base_a, &superblock.base_b] {
        let block = block_at(file, region.offset)?;
        let header = BaseHeader::decode(&block, &superblock.identity).ok();
        positions.extend(header.map(|header| header.position));
    }
    let older = positions.into_iter().min_by_key(|at| at.sequence);
    older.ok_or_else(|| "no base is usable".into())
}

fn block_at(file: &File, offset: u64) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; FORMAT_BLOCK];
    let read = file.read_exact_at(&mut bytes, offset);
    read.map_err(|why| format!("reading the block at byte {offset}: {why}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions, format};

    use super::*;

    fn put(slot: u32, generation: u64) -> LogRecord {
        LogRecord {
            block: generation,
            key: b"key".to_vec(),
            slots: vec![slot],
            generation: Generation(generation),
        }
    }

    #[test]
    fn the_generations_of_a_slot_must_ascend_and_those_of_two_need_not() {
        let remove = LogRecord {
            slots: Vec::new(),
            ..put(0, 1)
        };
        let ordered = [put(1, 5), put(2, 3), remove, put(1, 6), put(2, 4)];
        assert_eq!(first_disorder(&ordered), None);
        let disorder = first_disorder(&[put(1, 5), put(2, 3), put(1, 4), put(2, 1)]).unwrap();
        assert_eq!((disorder.former, disorder.later), (put(1, 5), put(1, 4)));
        assert!(first_disorder(&[put(1, 5), put(1, 5)]).is_some());
        let several = LogRecord {
            slots: vec![4, 1, 2],
            ..put(0, 4)
        };
        assert_eq!(
            first_disorder(&[put(1, 3), several.clone(), put(2, 5)]),
            None
        );
        assert!(first_disorder(&[put(2, 5), several.clone()]).is_some());
        assert!(first_disorder(&[several, put(2, 3)]).is_some());
    }

    /// The log is also read after the ring has wrapped, when it begins in the middle of the ring.
    #[test]
    fn the_log_of_a_file_is_read_from_the_older_base_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let class = ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(4),
        };
        let options = FormatOptions::new(&path, vec![class]);
        format(&FormatOptions {
            log_bytes: Some(64 * FORMAT_BLOCK as u64),
            ..options
        })
        .unwrap();
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        for _ in 0..100 {
            store.put(b"first", b"value").unwrap();
            store.sync().unwrap();
        }
        store.checkpoint().unwrap();
        store.put(b"second", b"value").unwrap();
        store.checkpoint().unwrap();
        store.put(b"third", b"value").unwrap();
        store.remove(b"first").unwrap();
        drop(store);
        let log = read_log(&path).unwrap();
        assert!(log.end > 102 && log.ring == 64);
        let read = log.records;
        let keys: Vec<_> = read
            .iter()
            .map(|it| (&it.key[..], !it.slots.is_empty()))
            .collect();
        let wanted: [(&[u8], bool); 3] = [(b"second", true), (b"third", true), (b"first", false)];
        assert_eq!(keys, wanted);
        assert_eq!(first_disorder(&read), None);
    }
}
