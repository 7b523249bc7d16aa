//! The fixed places of a device: superblock copies and incarnation blocks.

use std::path::Path;

use rb_format::{
    Corruption, FORMAT_BLOCK, Generation, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, Identity,
    Incarnation, SEQUENCE_MAX, SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET, Superblock,
};
use rb_io::Buffer;

use crate::clock::Random;
use crate::error::{Error, OpenError};
use crate::meta_io::MetaIo;
use crate::whose;

/// What the superblock copies say.
pub(crate) struct Superblocks {
    /// The newer valid copy.
    pub(crate) newest: Superblock,
    /// Whether copy A, B is to be written again; see [`whose::is_to_repair`].
    pub(crate) repair: [bool; 2],
}

const COPIES: [u64; 2] = [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET];

/// A block in its place, and what its decoder says.
pub(crate) struct Placed<T> {
    pub(crate) offset: u64,
    /// None if it could not be read, or lies beyond the device.
    pub(crate) bytes: Option<Buffer>,
    /// Why it could not be read.
    pub(crate) unreadable: Option<Error>,
    pub(crate) decoded: Result<T, Corruption>,
}

impl<T> Placed<T> {
    /// Its place and its block, if it could be read.
    pub(crate) fn part(&self) -> Option<(u64, &[u8])> {
        let bytes = self.bytes.as_ref()?;
        Some((self.offset, &bytes[..FORMAT_BLOCK]))
    }

    fn of(
        offset: u64,
        read: Option<Result<Buffer, Error>>,
        missing: Corruption,
        decode: impl FnOnce(&[u8]) -> Result<T, Corruption>,
    ) -> Placed<T> {
        let (bytes, unreadable) = match read {
            Some(Ok(bytes)) => (Some(bytes), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let decoded = bytes
            .as_ref()
            .map_or(Err(missing), |bytes| decode(&bytes[..FORMAT_BLOCK]));
        Placed {
            offset,
            bytes,
            unreadable,
            decoded,
        }
    }
}

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
pub(crate) fn read_copies(io: &mut MetaIo, capacity: u64) -> [Placed<Superblock>; 2] {
    COPIES.map(|offset| {
        // A device too small for a copy, or with a bad sector there, has none.
        let missing = Corruption::Truncated {
            what: "superblock",
            needed: offset + FORMAT_BLOCK as u64,
            found: capacity,
        };
        let is_there = offset + FORMAT_BLOCK as u64 <= capacity;
        let read = is_there.then(|| io.read(offset, FORMAT_BLOCK));
        Placed::of(offset, read, missing, Superblock::decode)
    })
}

/// Takes the newer of two superblock copies. Whether the device is as large as it says is for
/// [`check_size`].
pub(crate) fn choose_superblock(
    io: &mut MetaIo,
    copies: &[Placed<Superblock>; 2],
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

/// Writes a superblock: copy B, flush, copy A, flush, so that one whole copy is there at any time.
pub(crate) fn write_superblock(io: &mut MetaIo, superblock: &Superblock) -> Result<(), Error> {
    let block = superblock.encode();
    for offset in [COPIES[1], COPIES[0]] {
        io.write(offset, &block[..])?;
        io.flush()?;
    }
    Ok(())
}

/// Rewrites a copy that is to be repaired. The opening's incarnation block is flushed next, and this
/// with it.
pub(crate) fn repair_superblocks(io: &mut MetaIo, found: &Superblocks) -> Result<bool, Error> {
    let block = found.newest.encode();
    for (offset, repair) in COPIES.into_iter().zip(found.repair) {
        if repair {
            io.write(offset, &block[..])?;
        }
    }
    Ok(found.repair.contains(&true))
}

/// Reads both incarnation blocks.
pub(crate) fn read_incarnation_blocks(
    io: &mut MetaIo,
    identity: &Identity,
) -> Result<Vec<Placed<Incarnation>>, Error> {
    let mut found = Vec::new();
    for offset in [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET] {
        let missing = Corruption::Truncated {
            what: "incarnation block",
            needed: FORMAT_BLOCK as u64,
            found: 0,
        };
        let read = match io.read(offset, FORMAT_BLOCK) {
            Err(error) if !error.is_damage() => return Err(error),
            read => Some(read),
        };
        let decode = |bytes: &[u8]| Incarnation::decode(bytes, identity);
        found.push(Placed::of(offset, read, missing, decode));
    }
    Ok(found)
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

/// Makes a new incarnation durable before anything else of this opening is written.
///
/// `floor` is the highest number seen anywhere on the device. The newest valid block is not
/// overwritten, so a crash here leaves it in place.
pub(crate) fn begin_incarnation(
    io: &mut MetaIo,
    identity: Identity,
    known: &[Incarnation],
    floor: u32,
    random: &dyn Random,
) -> Result<Incarnation, OpenError> {
    let newest = known.iter().max_by_key(|incarnation| incarnation.number);
    let mut number = newest.map_or(0, |newest| newest.number).max(floor) + 1;
    if newest.is_some_and(|newest| newest.number % 2 == number % 2) {
        number += 1;
    }
    if number > Generation::INCARNATION_MAX {
        let (uuid, limit) = (identity.uuid, Generation::INCARNATION_MAX);
        return Err(OpenError::IncarnationsExhausted { uuid, limit });
    }
    let mut nonce = [0; 16];
    random.fill(&mut nonce).map_err(|why| OpenError::Resource {
        what: "random bytes",
        why: why.to_string(),
    })?;
    let incarnation = Incarnation {
        identity,
        number,
        nonce,
    };
    let failed = |source| OpenError::Io {
        what: "writing the incarnation block",
        source,
    };
    io.write(incarnation.offset(), &incarnation.encode()[..])
        .map_err(failed)?;
    io.flush().map_err(failed)?;
    Ok(incarnation)
}
