//! The incarnation blocks: which session may write the store (C8), and how a new session takes it
//! over.
//!
//! A lock keeps out other processes of the same host. Between hosts that share a device, a writing
//! session
//!
//! 1. reads both blocks;
//! 2. recovers;
//! 3. reads them again: no other host has opened the store in the meantime;
//! 4. writes its own, with a new number and a random nonce, and flushes;
//! 5. reads both: its own is there, the other is unchanged;
//! 6. reads the log on from where it ended, and recovers what a former writer acknowledged before it could
//!    see step 4.
//!
//! A writer reads the blocks before it writes and again after the flush, before it acknowledges. So
//! everything it acknowledges was durable before the next writer's step 4, and that writer finds it
//! in step 6.
//!
//! Even numbers go to block A, odd ones to block B, so a crash in step 4 leaves the previous block
//! whole. If a block cannot be written and read back, the next number goes to the other one.

use rb_format::{
    Corruption, FORMAT_BLOCK, Generation, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, Identity,
    Incarnation,
};

use crate::clock::{Random, draw};
use crate::error::{Error, OTHER_WRITER, OpenError};
use crate::io::block_at::BlockAt;
use crate::io::meta_io::MetaIo;
use crate::io::unwritable::FailedWrite;

const OFFSETS: [u64; 2] = [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET];
const _: () = assert!(OFFSETS[0] + FORMAT_BLOCK as u64 == OFFSETS[1]);

/// Block A and block B.
pub(crate) type Pair = [BlockAt<Incarnation>; 2];

/// The incarnation of this session, and the content of the other block at the takeover.
pub(crate) struct Opened {
    ours: Incarnation,
    /// `None` if the other block could not be read.
    other: Decoded,
}

impl Opened {
    pub(crate) fn number(&self) -> u32 {
        self.ours.number
    }
}

/// A block's bytes, or the read error.
type Block = Result<Box<[u8]>, Error>;

/// Reads both blocks.
///
/// # Errors
/// The device does not complete the read. An unreadable block is not an error.
pub(crate) fn read_pair(io: &mut MetaIo, identity: &Identity) -> Result<Pair, Error> {
    let mut read = read_both(io)?.into_iter();
    Ok(OFFSETS.map(|offset| {
        let missing = Corruption::Truncated {
            what: "incarnation block",
            needed: FORMAT_BLOCK as u64,
            found: 0,
        };
        let decode = |bytes: &[u8]| Incarnation::decode(bytes, identity);
        BlockAt::of(offset, read.next(), missing, decode)
    }))
}

/// Reads both blocks in one request. If that fails, reads each by itself, which is the second
/// attempt for the bad one.
fn read_both(io: &mut MetaIo) -> Result<[Block; 2], Error> {
    match io.read(OFFSETS[0], 2 * FORMAT_BLOCK) {
        Ok(both) => Ok([0, FORMAT_BLOCK].map(|at| Ok(both[at..at + FORMAT_BLOCK].into()))),
        Err(error) if error.is_damage() => {
            let mut read_one = |offset| match io.read(offset, FORMAT_BLOCK) {
                Err(error) if !error.is_damage() => Err(error),
                read => Ok(read.map(|bytes| bytes[..FORMAT_BLOCK].into())),
            };
            Ok([read_one(OFFSETS[0])?, read_one(OFFSETS[1])?])
        }
        Err(error) => Err(error),
    }
}

/// The newest incarnation in the blocks.
fn newest(pair: &Pair) -> Option<&Incarnation> {
    let sound = pair.iter().filter_map(|block| block.decoded.as_ref().ok());
    sound.max_by_key(|found| found.number)
}

/// The number of the newest incarnation in the blocks.
pub(crate) fn newest_number(pair: &Pair) -> Option<u32> {
    newest(pair).map(|found| found.number)
}

/// The later epoch if a block names one: a start-empty crashed after its base and this block were
/// durable, but before the superblock was.
pub(crate) fn later_epoch(pair: &Pair, identity: &Identity) -> Option<u64> {
    let later = pair.iter().filter_map(|block| match block.decoded {
        Err(Corruption::WrongEpoch { found, .. }) => Some(found),
        _ => None,
    });
    later.max().filter(|epoch| *epoch > identity.epoch)
}

/// Returns whether two reads of the blocks agree. An unreadable block agrees with anything.
pub(crate) fn agree(before: &Pair, after: &Pair) -> bool {
    let same = |(before, after): (&BlockAt<Incarnation>, &BlockAt<Incarnation>)| match (
        &before.bytes,
        &after.bytes,
    ) {
        (Some(before), Some(after)) => before == after,
        _ => true,
    };
    before.iter().zip(after).all(same)
}

/// Makes a new incarnation durable before the session writes anything else (steps 4 and 5). Returns
/// it with the blocks that the device did not take.
///
/// `floor` is the highest number of this epoch seen anywhere on the device. A new epoch counts from
/// 1 again: blocks, generations and records carry the epoch, and a writer of the former epoch
/// notices the new epoch before it compares numbers. Only the place of the former epoch's newest
/// block is left alone.
pub(crate) fn begin(
    io: &mut MetaIo,
    identity: Identity,
    known: &Pair,
    floor: u32,
    random: &dyn Random,
) -> Result<(Opened, Vec<FailedWrite>), OpenError> {
    let newest = newest(known);
    let of_epoch = newest.filter(|newest| newest.identity == identity);
    // A torn block belongs to a session that wrote nothing else, or still shows the number of the
    // one before it.
    let torn = known.iter().filter_map(|block| {
        let bytes = block.bytes.as_deref()?;
        Incarnation::torn_number(bytes, &identity)
    });
    let of_epoch = of_epoch.map(|newest| newest.number);
    let seen = torn.chain(of_epoch).max().unwrap_or(0);
    let mut number = seen.max(floor).saturating_add(1);
    // The parity chooses the block, and the newest one must not be overwritten.
    if newest.is_some_and(|newest| newest.number % 2 == number % 2) {
        number = number.saturating_add(1);
    }
    let nonce = draw(random)?;
    let (mut refused, mut no_space) = (Vec::new(), None);
    // If the device does not keep the first block, the next number goes to the other one.
    for number in [number, number.saturating_add(1)] {
        if number > Generation::INCARNATION_MAX {
            let (uuid, limit) = (identity.uuid, Generation::INCARNATION_MAX);
            return Err(OpenError::IncarnationsExhausted { uuid, limit });
        }
        let ours = Incarnation {
            identity,
            number,
            nonce,
        };
        match is_there(io, &ours, known)? {
            Ok(other) => return Ok((Opened { ours, other }, refused)),
            Err(why) => {
                let what = "incarnation block";
                refused.push(FailedWrite::new(what, ours.offset(), why.as_ref()));
                no_space = no_space.or(why.filter(Error::is_out_of_space));
            }
        }
    }
    Err(OpenError::Io {
        what: "writing the incarnation block",
        source: no_space.unwrap_or_else(|| Error::Resource {
            what: "a block that the device keeps",
            why: "neither of the two can be written and read back".into(),
        }),
    })
}

/// Writes the next number of the same session to the other place. If a superblock copy is bad, only
/// the incarnation blocks name a new epoch, and one of them may be overwritten or go bad. Returns
/// the session with the new number, or unchanged if the device did not keep the block.
pub(crate) fn begin_twice(
    io: &mut MetaIo,
    opened: Opened,
    refused: &mut Vec<FailedWrite>,
) -> Result<Opened, OpenError> {
    let number = opened.ours.number.saturating_add(1);
    if number > Generation::INCARNATION_MAX {
        return Ok(opened);
    }
    let ours = Incarnation {
        number,
        ..opened.ours
    };
    let what = "writing the incarnation block";
    let known = read_pair(io, &ours.identity).map_err(|source| OpenError::Io { what, source })?;
    check_writer(io, &opened).map_err(|why| contended(why.to_string()))?;
    Ok(match is_there(io, &ours, &known)? {
        Ok(other) => Opened { ours, other },
        Err(why) => {
            let what = "incarnation block";
            refused.push(FailedWrite::new(what, ours.offset(), why.as_ref()));
            opened
        }
    })
}

/// Result of decoding a block; `None` if it could not be read.
type Decoded = Option<Result<Incarnation, Corruption>>;

/// Writes the block of this session and reads both back. Returns the other block, or the write
/// error, if known, when the device did not keep this one.
///
/// # Errors
/// Another host opens the store at the same time.
fn is_there(
    io: &mut MetaIo,
    ours: &Incarnation,
    known: &Pair,
) -> Result<Result<Decoded, Option<Error>>, OpenError> {
    let failed = |source| OpenError::Io {
        what: "writing the incarnation block",
        source,
    };
    let refused = io
        .write_each(&[(ours.offset(), &ours.encode()[..])])
        .map_err(failed)?;
    if refused.is_empty() {
        io.flush().map_err(failed)?;
    }
    let pair = read_pair(io, &ours.identity).map_err(failed)?;
    for (before, found) in known.iter().zip(&pair) {
        match (&before.decoded, &found.decoded) {
            (_, Ok(found)) if found.nonce == ours.nonce => {}
            (Ok(known), Ok(found)) if known == found => {}
            // It was unreadable before.
            (Err(_), Ok(found)) if before.unreadable.is_some() && found.number < ours.number => {}
            (_, Ok(found)) => {
                return Err(contended(format!(
                    "it opened it as number {}, this opening is number {}",
                    found.number, ours.number
                )));
            }
            (_, Err(Corruption::WrongEpoch { found, .. })) if *found > ours.identity.epoch => {
                return Err(contended(format!("it emptied it, and is in epoch {found}")));
            }
            (before, Err(why @ Corruption::WrongStore { .. }))
                if before.as_ref().err() != Some(why) =>
            {
                return Err(contended("it formatted the device".into()));
            }
            // Zeros, another epoch's block, torn or unreadable: as before, or the device did not
            // keep ours.
            (_, Err(_)) => {}
        }
    }
    let mine = pair.iter().find(|block| block.offset == ours.offset());
    if !refused.is_empty() || mine.is_none_or(|block| block.decoded.as_ref() != Ok(ours)) {
        return Ok(Err(refused.into_iter().next().map(|(_, why)| why)));
    }
    let mut readings = pair.iter().chain(known);
    let other = readings.find(|block| block.offset != ours.offset() && block.unreadable.is_none());
    Ok(Ok(other.map(|block| block.decoded.clone())))
}

fn contended(why: String) -> OpenError {
    OpenError::Contended { why }
}

/// Fails unless the newest incarnation on the device is ours. Called before a commit, a checkpoint
/// or a discard writes, and before its writes are acknowledged.
///
/// The other block must be unchanged, too: a late session with a lower number may have overwritten
/// the block of the session after ours. An unreadable block proves nothing: the other one shows
/// every other session that kept to the order of numbers.
pub(crate) fn check_writer(io: &mut MetaIo, opened: &Opened) -> Result<(), Error> {
    let ours = &opened.ours;
    let mut unreadable = 0;
    let mut is_there = false;
    for (offset, read) in OFFSETS.into_iter().zip(read_both(io)?) {
        let Ok(bytes) = read else {
            unreadable += 1;
            continue;
        };
        let is_ours = offset == ours.offset();
        let decoded = Incarnation::decode(&bytes, &ours.identity);
        if !is_ours && opened.other.as_ref() == Some(&decoded) {
            continue;
        }
        match decoded {
            Ok(found) if found == *ours => is_there = true,
            // Our own block, which the device refused: it landed nevertheless.
            Ok(found) if !is_ours && found.nonce == ours.nonce => {}
            // It was unreadable before.
            Ok(found) if !is_ours && opened.other.is_none() && found.number < ours.number => {}
            Ok(found) => {
                return Err(foreign(format!(
                    "it was opened as number {}, this opening is number {}",
                    found.number, ours.number
                )));
            }
            Err(Corruption::WrongStore { found, .. }) => {
                return Err(foreign(format!("it was formatted as store {found}")));
            }
            Err(Corruption::WrongEpoch { found, .. }) if found > ours.identity.epoch => {
                return Err(foreign(format!("it was emptied, and is in epoch {found}")));
            }
            Err(Corruption::WrongEpoch { found, .. }) if opened.other.is_some() => {
                return Err(foreign(format!("it was opened in epoch {found}")));
            }
            Err(_) if is_ours => {
                return Err(foreign("its incarnation block is gone".into()));
            }
            Err(_) => {}
        }
    }
    match is_there || unreadable == 1 {
        true => Ok(()),
        false => Err(foreign(
            "neither of its incarnation blocks can be read".into(),
        )),
    }
}

fn foreign(found: String) -> Error {
    Error::Poisoned {
        reason: format!("{OTHER_WRITER}: {found}"),
    }
}
