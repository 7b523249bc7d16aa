//! Measures the restart, and checks everything that was acknowledged.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rb_core::{Store, StoreOptions};

use super::sizes::VALUE_BYTES;
use super::workload::Workload;
use crate::failure::Failure;
use crate::open::open;
use crate::output::Output;
use crate::payload::is_payload;
use crate::progress;

/// Blocks read in one batch.
const BATCH: usize = 64;

/// Times of one opening.
pub(super) struct Restart {
    /// The opening, including the wait until the kernel has released the lock of a killed process.
    pub(super) open: Duration,
    pub(super) base: Duration,
    pub(super) log: Duration,
    pub(super) index: Duration,
    pub(super) clean: bool,
}

/// Results for the acknowledged blocks.
#[derive(Default)]
pub(super) struct VerifiedBlocks {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) wrong: u64,
    pub(super) first_get: Duration,
    pub(super) time: Duration,
}

pub(super) fn reopen(
    path: &Path,
    options: StoreOptions,
    output: &mut Output,
) -> Result<(Store, Restart), Failure> {
    let start = Instant::now();
    let store = open(path, options, output)?;
    let open = start.elapsed();
    let report = store.recovery();
    let restart = Restart {
        open,
        base: report.base_time,
        log: report.log_time,
        index: report.index_time,
        clean: report.clean,
    };
    Ok((store, restart))
}

/// Checks every block of the first `turns` turns, in the order in which they were put, and advances the
/// workload to the next turn.
pub(super) fn verify(
    store: &Store,
    workload: &mut Workload,
    turns: u64,
) -> Result<VerifiedBlocks, Failure> {
    let mut seen = HashSet::new();
    let mut blocks = Vec::new();
    for turn in workload.take(usize::try_from(turns).unwrap_or(usize::MAX)) {
        blocks.extend(turn.blocks.into_iter().filter(|block| seen.insert(*block)));
    }
    let bar = progress::bar(blocks.len() as u64, "verifying");
    let mut verified = VerifiedBlocks {
        blocks: blocks.len() as u64,
        ..VerifiedBlocks::default()
    };
    let start = Instant::now();
    // The first block alone: its time is what a restarted service waits for.
    let (first, rest) = blocks.split_at(blocks.len().min(1));
    check(store, first, &mut verified)?;
    verified.first_get = start.elapsed();
    for batch in rest.chunks(BATCH) {
        check(store, batch, &mut verified)?;
        bar.inc(batch.len() as u64);
    }
    verified.time = start.elapsed();
    bar.finish_and_clear();
    Ok(verified)
}

fn check(store: &Store, blocks: &[u64], verified: &mut VerifiedBlocks) -> Result<(), Failure> {
    let keys: Vec<[u8; 8]> = blocks.iter().map(|block| block.to_le_bytes()).collect();
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 8]>::as_slice).collect();
    for ((block, key), result) in blocks.iter().zip(&keys).zip(store.get_many(&keys)) {
        match result.map_err(|source| Failure::Key {
            what: "getting",
            key: key.to_vec(),
            source,
        })? {
            None => verified.lost += 1,
            Some(value) if value.len() == VALUE_BYTES && is_payload(*block, &value) => {
                verified.bytes += value.len() as u64;
            }
            Some(_) => verified.wrong += 1,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rb_core::{ClassRequest, FormatOptions, Share};

    use super::*;
    use crate::payload::fill;

    #[test]
    fn lost_and_wrong_blocks_are_counted_separately() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let class = ClassRequest {
            slot_bytes: VALUE_BYTES as u64,
            share: Share::Slots(8),
        };
        rb_core::format(&FormatOptions::new(&path, vec![class])).unwrap();
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        let mut bytes = vec![0; VALUE_BYTES];
        fill(1, &mut bytes);
        store.put(&1_u64.to_le_bytes(), &bytes).unwrap();
        store.put(&2_u64.to_le_bytes(), &bytes).unwrap();
        fill(3, &mut bytes);
        store.put(&3_u64.to_le_bytes(), &bytes[1..]).unwrap();

        let mut verified = VerifiedBlocks::default();
        check(&store, &[1, 2, 3, 4], &mut verified).unwrap();
        assert_eq!((verified.lost, verified.wrong), (1, 2));
        assert_eq!(verified.bytes, VALUE_BYTES as u64);
        store.close().unwrap();
    }
}
