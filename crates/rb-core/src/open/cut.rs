//! Handles files that lost their end and devices that shrank.
//!
//! The layout ends with log ring 2 and unused space; the slots lie before them. So if all live
//! slots are inside, nothing is lost: ring 1 has the whole log. Readers serve such a store as it
//! is; a file is grown back before it is written. While a store is open, each commit checks its
//! size.

use std::path::Path;
use std::sync::Arc;

use rb_format::{FORMAT_BLOCK, Geometry, SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET, Superblock};
use rb_index::Index;
use rb_io::{Device, DeviceKind, EngineKind};

use crate::core::entry_scan::EntryScan;
use crate::core::pieces::{Piece, pieces, slots_of};
use crate::error::OpenError;
use crate::io::meta_io::{BOOT_ARENA, MetaIo};
use crate::io::superblocks::{Superblocks, check_size, read_copies};
use crate::io::whose;
use crate::open::recover_options::RecoverOptions;
use crate::open::recovered::Recovered;
use crate::open::sessions::read_openings;

/// Entries examined per lock hold.
const STEP: usize = 4096;

/// The loss on a device that is too small.
pub(crate) struct Cut {
    /// Live entries one of whose slots is not entirely on the device.
    pub(crate) lost: u64,
    pub(crate) entries: u64,
}

/// Returns whether all metadata except log ring 2 lies within `capacity`.
pub(crate) fn holds_metadata(superblock: &Superblock, capacity: u64) -> bool {
    let first = superblock.runs.iter().map(|run| run.first_byte).min();
    first.is_some_and(|first| first <= capacity)
}

/// Counts the entries that lie beyond `capacity` bytes.
pub(crate) fn cost(index: &Index, geometry: &Geometry, capacity: u64) -> Cut {
    let mut cut = Cut {
        lost: 0,
        entries: 0,
    };
    let (mut walk, mut more) = (EntryScan::default(), true);
    while more {
        more = walk.step(index, STEP, &mut |entry| {
            let slots = slots_of(&entry.located, entry.more);
            let mut pieces = pieces(geometry, &slots, entry.located.payload_len as usize);
            let is_lost = |piece: Piece| {
                let len = FORMAT_BLOCK + piece.padded_len();
                piece.header_offset(geometry) + len as u64 > capacity
            };
            cut.entries += 1;
            cut.lost += u64::from(pieces.any(is_lost));
        });
    }
    cut
}

/// Rejects a device too small for the entries that were recovered.
pub(crate) fn check_recovered(
    path: &Path,
    superblock: &Superblock,
    geometry: &Geometry,
    capacity: u64,
    recovered: &Recovered,
) -> Result<(), OpenError> {
    if superblock.device_bytes <= capacity {
        return Ok(());
    }
    let whole = recovered.report.lost_metadata.is_none()
        && cost(&recovered.index, geometry, capacity).lost == 0;
    match whole {
        true => Ok(()),
        false => check_size(path, superblock, capacity),
    }
}

/// Grows a truncated file back if no live entry was in the lost part. Returns its former size.
///
/// The caller holds the device for writing. All other faults are left to the open that follows.
pub(crate) fn grow_again(path: &Path, device: &Arc<Device>) -> Result<Option<u64>, OpenError> {
    let capacity = device.capacity_bytes();
    let copies = [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET].map(|offset| {
        let mut block = vec![0; FORMAT_BLOCK];
        device.peek(offset, &mut block).ok()?;
        Superblock::decode(&block).ok()
    });
    let newest = copies
        .into_iter()
        .flatten()
        .max_by_key(|copy| copy.sequence);
    let Some(superblock) = newest.filter(|newest| {
        device.kind() == DeviceKind::File
            && newest.device_bytes > capacity
            && holds_metadata(newest, capacity)
            && newest.features.check_write().is_ok()
    }) else {
        return Ok(None);
    };
    let opened = rb_io::open(Arc::clone(device), EngineKind::Posix)?;
    let failed = |source| {
        let what = "looking at a file that was cut";
        OpenError::Io { what, source }
    };
    let deadline = std::time::Duration::from_secs(30);
    let mut io = MetaIo::new(opened.engine.as_ref(), BOOT_ARENA, 16, deadline).map_err(failed)?;
    let copies = read_copies(&mut io, capacity);
    let mut found = Superblocks {
        newest: superblock,
        repair: [false, false],
    };
    // The epoch in force decides which entries are live.
    let blocks = read_openings(&mut io, &copies, &mut found)?;
    let superblock = found.newest;
    let foreign = whose::look(&mut io, capacity, &superblock, &copies, &blocks).map_err(failed)?;
    let geometry = Geometry::new(&superblock);
    let how = RecoverOptions::look(&geometry)?;
    let recovered = how.recover(&mut io, &superblock, &geometry)?;
    let whole = check_recovered(path, &superblock, &geometry, capacity, &recovered).is_ok();
    if !whole || !foreign.is_empty() {
        return Ok(None);
    }
    device.extend(superblock.device_bytes, superblock.log_2.offset)?;
    Ok(Some(capacity))
}
