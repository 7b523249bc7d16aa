//! The two superblock copies.

use std::path::Path;

use rb_format::{
    Corruption, FORMAT_BLOCK, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, METADATA_START,
    SEQUENCE_MAX, SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET, Superblock, magic,
};

use crate::error::{Error, OpenError};
use crate::io::block_at::BlockAt;
use crate::io::meta_io::MetaIo;
use crate::io::unwritable::FailedWrite;
use crate::io::whose;

/// Result of reading the superblock copies.
#[derive(Clone)]
pub(crate) struct Superblocks {
    /// The newer valid copy.
    pub(crate) newest: Superblock,
    /// True for each copy (A, B) to rewrite; see [`whose::is_to_repair`].
    pub(crate) repair: [bool; 2],
}

const COPIES: [u64; 2] = [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET];

/// Reads both superblock copies and chooses the newer.
pub(crate) fn read_superblocks(
    io: &mut MetaIo,
    path: &Path,
    capacity: u64,
) -> Result<Superblocks, OpenError> {
    let copies = read_copies(io, capacity);
    choose_superblock(io, &copies, path, capacity)
}

/// Reads both superblock copies.
pub(crate) fn read_copies(io: &mut MetaIo, capacity: u64) -> [BlockAt<Superblock>; 2] {
    COPIES.map(|offset| {
        // A copy beyond the end of a small device, or on a bad sector, counts as missing.
        let missing = Corruption::Truncated {
            what: "superblock",
            needed: offset + FORMAT_BLOCK as u64,
            found: capacity,
        };
        let is_there = offset + FORMAT_BLOCK as u64 <= capacity;
        let read = is_there.then(|| io.read(offset, FORMAT_BLOCK));
        let read = read.map(|read| read.map(|bytes| bytes[..FORMAT_BLOCK].into()));
        BlockAt::of(offset, read, missing, Superblock::decode)
    })
}

/// Chooses the newer of two superblock copies. The device size is checked separately, by
/// [`check_size`].
pub(crate) fn choose_superblock(
    io: &mut MetaIo,
    copies: &[BlockAt<Superblock>; 2],
    path: &Path,
    capacity: u64,
) -> Result<Superblocks, OpenError> {
    let mut signature = || {
        let what = "looking for signatures";
        whose::signatures(io, capacity).map_err(|source| OpenError::Io { what, source })
    };
    let unreadable = copies.iter().find_map(|copy| copy.unreadable.clone());
    let [a, b] = [&copies[0], &copies[1]].map(|copy| copy.decoded.clone());
    let path = path.to_path_buf();
    if let Some(why) = [&a, &b].into_iter().find_map(|copy| {
        copy.as_ref()
            .err()
            .filter(|why| why.is_unknown_version())
            .cloned()
    }) {
        return Err(OpenError::Version { path, why });
    }
    let newest = match (a, b) {
        // Not left by a crash: a format wipes both copies before it writes one.
        (Ok(a), Ok(b)) if a.identity.uuid != b.identity.uuid => {
            let stores = [a.identity.uuid, b.identity.uuid];
            return Err(OpenError::Mixed { path, stores });
        }
        // A crash between the two writes leaves a differing pair; B is written first.
        (Ok(a), Ok(b)) if a.sequence > b.sequence => a,
        (_, Ok(b)) => b,
        (Ok(a), Err(_)) => a,
        (Err(_), Err(_)) if let Some(source) = unreadable => {
            let what = "reading the superblocks";
            return Err(OpenError::Io { what, source });
        }
        (Err(a), Err(b)) if was_never_written(&a) && was_never_written(&b) => {
            let signature = signature()?;
            let trace = trace_of_store(|offset| {
                let is_there = offset + FORMAT_BLOCK as u64 <= capacity;
                is_there
                    .then(|| io.read(offset, FORMAT_BLOCK).ok())?
                    .map(|block| block[..FORMAT_BLOCK].to_vec())
            });
            return Err(OpenError::NotAStore {
                path,
                signature,
                trace,
            });
        }
        (Err(a), Err(b)) => {
            return Err(OpenError::Superblock {
                path,
                copies: Box::new([a, b]),
                signature: signature()?,
            });
        }
    };
    let repair = [0, 1].map(|copy| whose::is_to_repair(&copies[copy], &newest));
    Ok(Superblocks { newest, repair })
}

/// Returns the offset of a structure that shows that there was a store, although neither superblock copy is there.
/// `read` returns the block at an offset, if it can be read.
pub(crate) fn trace_of_store(mut read: impl FnMut(u64) -> Option<Vec<u8>>) -> Option<u64> {
    let places = [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, METADATA_START];
    let is_ours = |block: &[u8]| magic::ALL.iter().any(|magic| block.starts_with(magic));
    places
        .into_iter()
        .find(|offset| read(*offset).is_some_and(|block| is_ours(&block)))
}

/// Refuses a device smaller than the layout in its superblock.
pub(crate) fn check_size(
    path: &Path,
    superblock: &Superblock,
    capacity: u64,
) -> Result<(), OpenError> {
    if superblock.device_bytes <= capacity {
        return Ok(());
    }
    Err(OpenError::Truncated {
        path: path.to_path_buf(),
        needed: superblock.device_bytes,
        found: capacity,
    })
}

/// Returns whether a place holds nothing of this program, or does not exist.
fn was_never_written(why: &Corruption) -> bool {
    why.is_absent() || matches!(why, Corruption::Truncated { .. })
}

/// Writes a superblock: copy B, flush, copy A, flush. If only B is sound, A goes first, so that one
/// sound copy exists at any time.
///
/// Returns the copies that the device did not take. If a copy cannot be read back, the other is not
/// written: it may be the only sound one.
pub(crate) fn write_superblock(
    io: &mut MetaIo,
    superblock: &Superblock,
) -> Result<Vec<FailedWrite>, Error> {
    let block = superblock.encode();
    let mut refused = Vec::new();
    let mut order = [COPIES[1], COPIES[0]];
    let mut is_sound = |offset| matches!(io.read(offset, FORMAT_BLOCK), Ok(found) if Superblock::decode(&found[..FORMAT_BLOCK]).is_ok());
    if is_sound(COPIES[1]) && !is_sound(COPIES[0]) {
        order.reverse();
    }
    for offset in order {
        if !refused.is_empty() {
            break;
        }
        let failed = io.write_each(&[(offset, &block[..])])?;
        if failed.is_empty() {
            io.flush()?;
        }
        // A successful write is not enough: the other copy may be overwritten only if this one
        // reads back.
        let is_there = match io.read(offset, FORMAT_BLOCK) {
            Ok(found) => found[..FORMAT_BLOCK] == block[..],
            Err(error) if error.is_damage() => false,
            Err(error) => return Err(error),
        };
        if !is_there {
            refused.push(superblock_copy(offset, failed.first().map(|(_, why)| why)));
        }
    }
    Ok(refused)
}

/// Refuses a device whose superblock is newer than the one this session began with, or belongs to
/// another store: it was emptied or formatted in the meantime.
pub(crate) fn check_unchanged(
    io: &mut MetaIo,
    capacity: u64,
    began_with: &Superblock,
) -> Result<(), OpenError> {
    for copy in read_copies(io, capacity) {
        if let Some(source) = copy.unreadable.filter(|error| !error.is_damage()) {
            let what = "reading the superblocks";
            return Err(OpenError::Io { what, source });
        }
        if let Ok(found) = copy.decoded
            && (found.identity.uuid != began_with.identity.uuid
                || found.sequence > began_with.sequence)
        {
            let why = format!(
                "its superblock names store {} in epoch {}",
                found.identity.uuid, found.identity.epoch
            );
            return Err(OpenError::Contended { why });
        }
    }
    Ok(())
}

/// Rewrites the copies that need repair; the caller's next flush covers them. Returns whether any
/// copy was written, and the copies that the device did not take.
pub(crate) fn repair_superblocks(
    io: &mut MetaIo,
    found: &Superblocks,
) -> Result<(bool, Vec<FailedWrite>), Error> {
    if found.repair == [true, true] {
        // Writing both together could tear both.
        return Ok((true, write_superblock(io, &found.newest)?));
    }
    let block = found.newest.encode();
    let to_repair = COPIES.into_iter().zip(found.repair);
    let writes: Vec<_> = to_repair
        .filter_map(|(offset, repair)| repair.then_some((offset, &block[..])))
        .collect();
    let failed = io.write_each(&writes)?;
    let refused: Vec<_> = failed
        .iter()
        .map(|(number, why)| superblock_copy(writes[*number].0, Some(why)))
        .collect();
    Ok((refused.len() < writes.len(), refused))
}

fn superblock_copy(offset: u64, why: Option<&Error>) -> FailedWrite {
    FailedWrite::new("superblock copy", offset, why)
}

/// Refuses to write a store whose sequence numbers are implausibly high: decoders reject numbers
/// above `SEQUENCE_MAX`, and half of that range is kept for this and later sessions.
pub(crate) fn check_numbers(numbers: &[(&'static str, u64)]) -> Result<(), OpenError> {
    let limit = SEQUENCE_MAX / 2;
    match numbers.iter().find(|(_, found)| *found > limit) {
        None => Ok(()),
        Some(&(what, found)) => Err(OpenError::NumbersExhausted { what, found, limit }),
    }
}
