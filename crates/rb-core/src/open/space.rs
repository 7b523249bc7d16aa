//! Space of a file for the metadata: taken when it is formatted, and again by an opening that finds that some is missing.
//!
//! A store can do without space for a value: that put fails. Without space for its log it can acknowledge nothing.

use std::ops::Range;

use rb_format::{FORMAT_BLOCK, Superblock};
use rb_io::{Device, DeviceKind, OpenError};

use crate::error::{Error, error_chain};
use crate::io::meta_io::MetaIo;

/// Zeros written together.
const PIECE: usize = 1 << 20;

/// All of the layout that is not slots.
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

/// Allocates a file that is formatted: all of it, or with `sparse` its metadata. Adds what there is to warn of, and answers the
/// ranges that zeros have to be written to because the file system knows no other way to take space.
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

/// Writes zeros.
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

/// Takes the space that a file's metadata lacks: it was copied without its zeros, or made where space could not be had.
/// Costs two system calls for a file that lacks none. Answers in words why it lacks some all the same; the store can be used, and
/// waits for space where it finds none.
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
