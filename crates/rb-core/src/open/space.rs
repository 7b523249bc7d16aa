//! Allocates file space for the metadata: at the format, and again when a session finds some
//! missing.
//!
//! Without space for a value, one put fails. Without space for the log, the store cannot
//! acknowledge anything.

use std::ops::Range;

use rb_format::{FORMAT_BLOCK, Superblock};
use rb_io::{Device, DeviceKind, OpenError};

use crate::error::{Error, error_chain};
use crate::io::meta_io::MetaIo;

/// Zero bytes per write.
const PIECE: usize = 1 << 20;

/// Returns every range of the layout that is not slots.
pub(crate) fn metadata_ranges(superblock: &Superblock) -> Vec<Range<u64>> {
    let mut runs: Vec<_> = superblock
        .runs
        .iter()
        .map(|run| run.first_byte..run.first_byte + run.stride * run.count)
        .collect();
    runs.sort_unstable_by_key(|run| run.start);
    let mut ranges = Vec::new();
    let mut at = 0;
    for run in runs {
        ranges.push(at..run.start);
        at = run.end;
    }
    ranges.push(at..superblock.device_bytes);
    ranges.retain(|range| !range.is_empty());
    ranges
}

/// Allocates space for a new store's file: all of it, or only the metadata if `sparse`. Appends
/// warnings, and returns the ranges to be zeroed because the file system has no other way to
/// allocate.
pub(crate) fn allocate_new(
    device: &Device,
    superblock: &Superblock,
    bytes: u64,
    sparse: bool,
    warnings: &mut Vec<String>,
) -> Result<Vec<Range<u64>>, OpenError> {
    let metadata = metadata_ranges(superblock);
    warnings.extend(device.copies_on_write());
    let whole = 0..bytes;
    let wanted = match sparse {
        true => metadata.as_slice(),
        false => std::slice::from_ref(&whole),
    };
    if device.allocate(wanted)? {
        return Ok(Vec::new());
    }
    let slots = match sparse {
        true => "",
        false => {
            ", and slots take theirs when they are first written, so puts fail if it is full by then"
        }
    };
    warnings.push(format!(
        "the file system cannot reserve space (it has no fallocate): the metadata took its space by writing zeros{slots}"
    ));
    Ok(metadata)
}

/// Writes zeros over `ranges`.
pub(crate) fn fill(io: &mut MetaIo, ranges: &[Range<u64>]) -> Result<(), Error> {
    let zeros = vec![0; PIECE];
    for range in ranges {
        debug_assert!(range.start.is_multiple_of(FORMAT_BLOCK as u64));
        for at in range.clone().step_by(PIECE) {
            let len = (range.end - at).min(PIECE as u64) as usize;
            io.write(at, &zeros[..len])?;
        }
    }
    Ok(())
}

/// Allocates the space that a file's metadata lacks because it was copied without its zeros or
/// formatted where space could not be reserved. Costs two system calls if nothing is missing.
/// Returns a message if space is still missing; the store stays usable and waits for space when it
/// finds none.
pub(crate) fn allocate_again(device: &Device, superblock: &Superblock) -> Option<String> {
    if device.kind() != DeviceKind::File {
        return None;
    }
    let metadata = metadata_ranges(superblock);
    let why = match device.has_holes(&metadata) {
        Ok(false) => return None,
        Ok(true) => match device.allocate(&metadata) {
            Ok(true) => return None,
            Ok(false) => "the file system has no fallocate".to_owned(),
            Err(error) => error_chain(&error),
        },
        Err(error) => error_chain(&error),
    };
    Some(why)
}
