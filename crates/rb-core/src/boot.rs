//! The fixed places of a device: superblock copies and incarnation blocks.

use std::path::Path;

use rb_format::{
    Corruption, FORMAT_BLOCK, Generation, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, Identity,
    Incarnation, SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET, Superblock,
};

use crate::clock::Random;
use crate::error::{Error, OpenError};
use crate::meta_io::MetaIo;

/// What the superblock copies say.
pub(crate) struct Superblocks {
    /// The newer valid copy.
    pub(crate) newest: Superblock,
    /// Whether copy A, B needs to be rewritten: damaged, or older.
    pub(crate) repair: [bool; 2],
}

const COPIES: [u64; 2] = [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET];

/// Reads both superblock copies and takes the newer.
pub(crate) fn read_superblocks(
    io: &mut MetaIo,
    path: &Path,
    capacity: u64,
    signature: Option<String>,
) -> Result<Superblocks, OpenError> {
    let mut unreadable = None;
    let [a, b] = COPIES.map(|offset| {
        // A device too small for a copy, or with a bad sector there, has none.
        let missing = Corruption::Truncated {
            what: "superblock",
            needed: offset + FORMAT_BLOCK as u64,
            found: capacity,
        };
        if offset + FORMAT_BLOCK as u64 > capacity {
            return Err(missing);
        }
        match io.read(offset, FORMAT_BLOCK) {
            Ok(block) => Superblock::decode(&block[..FORMAT_BLOCK]),
            Err(error) => {
                unreadable = Some(error);
                Err(missing)
            }
        }
    });
    let path = path.to_path_buf();
    if let Some(why) = [&a, &b].into_iter().find_map(|copy| {
        copy.as_ref()
            .err()
            .filter(|why| why.is_unknown_version())
            .cloned()
    }) {
        return Err(OpenError::Version { path, why });
    }
    let found = match (a, b) {
        (Ok(a), Ok(b)) if a == b => Superblocks {
            newest: a,
            repair: [false, false],
        },
        // No crash leaves that: a format wipes both copies before it writes one.
        (Ok(a), Ok(b)) if a.identity.uuid != b.identity.uuid => {
            let stores = [a.identity.uuid, b.identity.uuid];
            return Err(OpenError::Mixed { path, stores });
        }
        // A differing pair is what a crash between the two writes leaves; B is written first.
        (Ok(a), Ok(b)) if a.sequence > b.sequence => Superblocks {
            newest: a,
            repair: [false, true],
        },
        (_, Ok(b)) => Superblocks {
            newest: b,
            repair: [true, false],
        },
        (Ok(a), Err(_)) => Superblocks {
            newest: a,
            repair: [false, true],
        },
        (Err(_), Err(_)) if let Some(source) = unreadable => {
            let what = "reading the superblocks";
            return Err(OpenError::Io { what, source });
        }
        (Err(a), Err(b)) if was_never_written(&a) && was_never_written(&b) => {
            return Err(OpenError::NotAStore { path, signature });
        }
        (Err(a), Err(b)) => {
            return Err(OpenError::Superblock {
                path,
                copies: Box::new([a, b]),
            });
        }
    };
    let (needed, found_bytes) = (found.newest.device_bytes, capacity);
    if needed > found_bytes {
        return Err(OpenError::Truncated {
            path,
            needed,
            found: found_bytes,
        });
    }
    Ok(found)
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

/// Rewrites the copies that differ from the newest.
pub(crate) fn repair_superblocks(io: &mut MetaIo, found: &Superblocks) -> Result<bool, Error> {
    let block = found.newest.encode();
    for (offset, repair) in COPIES.into_iter().zip(found.repair) {
        if repair {
            io.write(offset, &block[..])?;
            io.flush()?;
        }
    }
    Ok(found.repair.contains(&true))
}

/// Reads the incarnation blocks that are valid for this store.
pub(crate) fn read_incarnations(
    io: &mut MetaIo,
    identity: &Identity,
) -> Result<Vec<Incarnation>, Error> {
    let mut found = Vec::new();
    for offset in [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET] {
        match io.read(offset, FORMAT_BLOCK) {
            Ok(block) => found.extend(Incarnation::decode(&block[..FORMAT_BLOCK], identity).ok()),
            Err(error) if error.is_answer_for_place() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
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
