//! The superblock copies.

use std::path::Path;

use rb_format::{
    Corruption, FORMAT_BLOCK, SEQUENCE_MAX, SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET, Superblock,
};

use crate::error::{Error, OpenError};
use crate::io::block_at::BlockAt;
use crate::io::meta_io::MetaIo;
use crate::io::unwritable::FailedWrite;
use crate::io::whose;

/// What the superblock copies say.
#[derive(Clone)]
pub(crate) struct Superblocks {
    /// The newer valid copy.
    pub(crate) newest: Superblock,
    /// Whether copy A, B is to be written again; see [`whose::is_to_repair`].
    pub(crate) repair: [bool; 2],
}

const COPIES: [u64; 2] = [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET];

/// Reads both superblock copies and takes the newer.
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
        // A device too small for a copy, or with a bad sector there, has none.
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

/// Takes the newer of two superblock copies. Whether the device is as large as it says is for
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
        // No crash leaves that: a format wipes both copies before it writes one.
        (Ok(a), Ok(b)) if a.identity.uuid != b.identity.uuid => {
            let stores = [a.identity.uuid, b.identity.uuid];
            return Err(OpenError::Mixed { path, stores });
        }
        // A differing pair is what a crash between the two writes leaves; B is written first.
        (Ok(a), Ok(b)) if a.sequence > b.sequence => a,
        (_, Ok(b)) => b,
        (Ok(a), Err(_)) => a,
        (Err(_), Err(_)) if let Some(source) = unreadable => {
            let what = "reading the superblocks";
            return Err(OpenError::Io { what, source });
        }
        (Err(a), Err(b)) if was_never_written(&a) && was_never_written(&b) => {
            let signature = signature()?;
            return Err(OpenError::NotAStore { path, signature });
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

/// Refuses a device that is smaller than the layout in its superblock.
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

/// Whether a place holds nothing of ours, or is not there at all.
fn was_never_written(why: &Corruption) -> bool {
    why.is_absent() || matches!(why, Corruption::Truncated { .. })
}

/// Writes a superblock: copy B, flush, copy A, flush, or first the one that is not sound, so that one whole copy is
/// there at any time. Answers the
/// copies that the device did not take. A copy that cannot be read back was not taken, and then the other one is left
/// as it is: it may be the only one.
pub(crate) fn write_superblock(
    io: &mut MetaIo,
    superblock: &Superblock,
) -> Result<Vec<FailedWrite>, Error> {
    let block = superblock.encode();
    let mut refused = Vec::new();
    let mut order = [COPIES[1], COPIES[0]];
    // If only B is sound, A goes first.
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

/// Refuses a device whose superblock is newer than the one that an opening began with, or another store's: someone has
/// emptied or formatted it meanwhile.
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

/// Rewrites the copy that differs from the newest. The flush that follows covers it. Answers whether it did, and
/// the copy that the device did not take.
pub(crate) fn repair_superblocks(
    io: &mut MetaIo,
    found: &Superblocks,
) -> Result<(bool, Vec<FailedWrite>), Error> {
    if found.repair == [true, true] {
        // Both at once could both be torn.
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

/// Refuses to write a store whose numbers leave no room to count on: what it then wrote, no decoder would
/// take. Half of the decoders' range is left for the counting of this and later openings.
pub(crate) fn check_numbers(numbers: &[(&'static str, u64)]) -> Result<(), OpenError> {
    let limit = SEQUENCE_MAX / 2;
    match numbers.iter().find(|(_, found)| *found > limit) {
        None => Ok(()),
        Some(&(what, found)) => Err(OpenError::NumbersExhausted { what, found, limit }),
    }
}
