//! Whose device it is: what the fixed blocks and the unused areas show to belong to another program (C8).
//!
//! A format leaves the unused areas zero, and no crash of ours leaves in a fixed block what another program's
//! tools write there. So what is found there says that the device was given to someone else since. Slots, bases
//! and logs are never looked at: values may look like anything. Looking never writes.

use std::io;
use std::ops::Range;
use std::path::Path;

use rb_format::{
    Corruption, FORMAT_BLOCK, INCARNATION_A_OFFSET, Identity, Incarnation, LogBlock,
    SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET, Superblock, magic,
};
use rb_io::{Signature, find_signatures};

use crate::error::{Error, OpenError};
use crate::io::block_at::BlockAt;
use crate::io::headers::read_headers;
use crate::io::meta_io::MetaIo;
use crate::io::unusable::Unusable;
use crate::report::{Foreign, list};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
const BLOCK: u64 = FORMAT_BLOCK as u64;

/// The signatures on a device that holds no usable superblock, in words.
pub(crate) fn signatures(io: &mut MetaIo, capacity: u64) -> Result<Option<String>, Error> {
    let found = all_signatures(io, capacity)?;
    Ok((!found.is_empty()).then(|| list(&found)))
}

/// Every signature on a device that holds no usable superblock.
pub(crate) fn all_signatures(io: &mut MetaIo, capacity: u64) -> Result<Vec<Foreign>, Error> {
    let found = View::default().signatures(io, capacity, 0)?;
    Ok(found.into_iter().map(Foreign::from).collect())
}

/// What the fixed blocks that are not whole and the unused areas show to belong to another program.
///
/// Signatures behind the layout count as well: a device may be larger than its slots fill, and what marks it as a part
/// of something else may stand at its very end.
pub(crate) fn look(
    io: &mut MetaIo,
    capacity: u64,
    superblock: &Superblock,
    copies: &[BlockAt<Superblock>; 2],
    incarnations: &[BlockAt<Incarnation>],
) -> Result<Vec<Foreign>, Error> {
    let mut view = View::default();
    let fixed = copies
        .iter()
        .map(|copy| (copy.decoded.is_ok(), copy.part()));
    let pair = incarnations
        .iter()
        .map(|block| (is_sound(&block.decoded), block.part()));
    for (is_whole, part) in fixed.chain(pair) {
        if let (false, Some((offset, bytes))) = (is_whole, part) {
            view.add(offset, bytes);
        }
    }
    let mut unused = Vec::new();
    for area in superblock.unused_areas() {
        let end = area.end.min(capacity / BLOCK * BLOCK);
        let first = view.add_area(io, area.start..end)?;
        unused.extend(first.map(|first| (area, first)));
    }
    let mut found: Vec<_> = view
        .signatures(io, capacity, superblock.device_bytes)?
        .into_iter()
        .map(Foreign::from)
        .collect();
    for (area, offset) in unused {
        // A name says more than "not zero".
        if !found.iter().any(|found| area.contains(&found.offset)) {
            let what = "bytes that are not zero in an unused area".to_owned();
            found.push(Foreign { what, offset });
        }
    }
    found.sort_by_key(|found| found.offset);
    Ok(found)
}

/// Refuses to write where another program's data is.
pub(crate) fn check(path: &Path, found: &[Foreign], force: bool) -> Result<(), OpenError> {
    if found.is_empty() || force {
        return Ok(());
    }
    Err(OpenError::Foreign {
        path: path.to_path_buf(),
        found: found.to_vec(),
    })
}

/// The highest opening of this epoch that wrote to the store, by what it left elsewhere than in the incarnation
/// blocks, as far as that tells without recovery: the first block of the log is an opening's first.
pub(crate) fn last_opening(io: &mut MetaIo, superblock: &Superblock) -> Result<u32, Unusable> {
    let headers = read_headers(io, superblock)?;
    let in_bases = headers.found.iter().map(|base| base.header.incarnation);
    let mut last = in_bases.max().unwrap_or(0);
    if let Some(base) = headers.found.first() {
        let places = superblock
            .log_block_offsets(base.header.position.sequence)
            .map(|at| (at, FORMAT_BLOCK));
        for block in io.read_many(&places)?.iter().flatten() {
            if let Ok(block) = LogBlock::decode(&block[..FORMAT_BLOCK], &superblock.identity) {
                last = last.max(block.incarnation);
            }
        }
    }
    Ok(last)
}

/// Superblock copies that are neither whole nor to be repaired, in words.
pub(crate) fn left_alone(copies: &[BlockAt<Superblock>; 2], newest: &Superblock) -> Vec<String> {
    let is_left = |copy: &&BlockAt<Superblock>| {
        copy.decoded.as_ref() != Ok(newest) && !is_to_repair(copy, newest)
    };
    let words = |copy: &BlockAt<Superblock>| match &copy.decoded {
        Ok(_) => format!("at byte {}: it differs from the other copy", copy.offset),
        Err(why) => format!("at byte {}: {why}", copy.offset),
    };
    copies.iter().filter(is_left).map(words).collect()
}

/// Both incarnation blocks are gone, although an opening wrote to the store: a crash leaves one of them.
/// `last` is the highest opening that left a trace elsewhere.
pub(crate) fn lost_incarnations(
    incarnations: &[BlockAt<Incarnation>],
    identity: &Identity,
    last: u32,
) -> Option<Foreign> {
    let is_ours = |block: &BlockAt<Incarnation>| {
        let torn = |bytes: &[u8]| {
            bytes.starts_with(&magic::MAGIC_INCARNATION)
                && Incarnation::may_be_torn(bytes, identity)
        };
        // Until the second opening, block A is as the format left it: one bad block more must not cost the store.
        let untouched = |bytes: &[u8]| {
            last < 2 && block.offset == INCARNATION_A_OFFSET && bytes.iter().all(|byte| *byte == 0)
        };
        let is_left = |bytes| torn(bytes) || untouched(bytes);
        is_sound(&block.decoded) || block.part().is_some_and(|(_, bytes)| is_left(bytes))
    };
    let lost = last > 0 && !incarnations.iter().any(is_ours);
    lost.then(|| Foreign {
        what: "something else in the place of both incarnation blocks".to_owned(),
        offset: INCARNATION_A_OFFSET,
    })
}

/// Those of an epoch before stay until they are written over.
fn is_sound(decoded: &Result<Incarnation, Corruption>) -> bool {
    matches!(decoded, Ok(_) | Err(Corruption::WrongEpoch { .. }))
}

/// Whether an opening for writing writes this copy again: a crash, or a device that lost it, can leave it so.
/// Anything else may be another program's.
pub(crate) fn is_to_repair(copy: &BlockAt<Superblock>, newest: &Superblock) -> bool {
    match (&copy.decoded, copy.part()) {
        (Ok(found), _) => found.sequence < newest.sequence,
        (Err(_), Some((_, bytes))) => newest.may_be_torn(bytes),
        (Err(_), None) => copy.unreadable.is_some(),
    }
}

/// Makes the device the store's again: both superblock copies, zeroes in the place of incarnation blocks that are
/// not sound, and in the unused areas. What else was there is gone.
pub(crate) fn reclaim(
    io: &mut MetaIo,
    superblock: &Superblock,
    copies: &[BlockAt<Superblock>; 2],
    incarnations: &[BlockAt<Incarnation>],
) -> Result<(), Error> {
    let zeros = vec![0; FORMAT_BLOCK];
    for block in incarnations
        .iter()
        .filter(|block| !is_sound(&block.decoded))
    {
        // A place that the device does not write stays as it is, here and below: nothing depends on it.
        io.write_each(&[(block.offset, &zeros)])?;
    }
    for area in superblock.unused_areas() {
        zero(io, area)?;
    }
    let block = superblock.encode();
    for (copy, offset) in copies
        .iter()
        .zip([SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET])
    {
        if copy.decoded.as_ref() != Ok(superblock) {
            io.write_each(&[(offset, &block[..])])?;
        }
    }
    io.flush()
}

/// Makes an area of whole blocks zero, writing only what is not: most devices come that way. Answers why blocks could
/// not be written, if there are any.
pub(crate) fn zero(io: &mut MetaIo, area: Range<u64>) -> Result<Option<Error>, Error> {
    let zeros = vec![0; PIECE];
    let mut refused = None;
    let mut at = area.start;
    while at < area.end {
        let len = PIECE.min((area.end - at) as usize);
        let is_zero = match io.read(at, len) {
            Ok(found) => found[..len].iter().all(|byte| *byte == 0),
            Err(error) if error.is_damage() => false,
            Err(error) => return Err(error),
        };
        if !is_zero && !io.write_each(&[(at, &zeros[..len])])?.is_empty() {
            let blocks = (at..).step_by(FORMAT_BLOCK);
            let blocks: Vec<_> = blocks.zip(zeros[..len].chunks(FORMAT_BLOCK)).collect();
            refused = refused.or(io.write_each(&blocks)?.pop().map(|(_, why)| why));
        }
        at += len as u64;
    }
    Ok(refused)
}

/// Whether all bytes are zero; block by block without a branch in between, which is as fast as memory.
fn is_zero(bytes: &[u8]) -> bool {
    let zero = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte) == 0;
    bytes.chunks(FORMAT_BLOCK).all(zero)
}

/// The device as far as it may be looked at; the rest of it reads as zeros.
#[derive(Default)]
struct View {
    parts: Vec<(u64, Vec<u8>)>,
}

impl View {
    fn add(&mut self, offset: u64, bytes: &[u8]) {
        self.parts.push((offset, bytes.to_vec()));
    }

    /// Adds what is not zero of an area, and answers its first byte. A block that cannot be read says nothing.
    fn add_area(&mut self, io: &mut MetaIo, area: Range<u64>) -> Result<Option<u64>, Error> {
        let starts = area.clone().step_by(PIECE);
        let pieces: Vec<_> = starts
            .map(|at| (at, PIECE.min((area.end - at) as usize)))
            .collect();
        let mut first = None;
        for (&(at, len), answer) in pieces.iter().zip(io.read_many(&pieces)?) {
            // Every opening does this, and finds zeros.
            if matches!(&answer, Ok(bytes) if is_zero(&bytes[..len])) {
                continue;
            }
            let bytes = match answer {
                Ok(bytes) => bytes[..len].to_vec(),
                Err(_) => read(io, at, len)?,
            };
            if let Some(position) = bytes.iter().position(|byte| *byte != 0) {
                first = first.or(Some(at + position as u64));
                self.parts.push((at, bytes));
            }
        }
        Ok(first)
    }

    /// The signatures that the view shows of a device of `capacity` bytes; from byte `open_from` on all of it is
    /// looked at.
    fn signatures(
        &mut self,
        io: &mut MetaIo,
        capacity: u64,
        open_from: u64,
    ) -> Result<Vec<Signature>, Error> {
        let mut failed = None;
        let found = find_signatures(capacity, &mut |offset, out| {
            out.fill(0);
            let end = offset + out.len() as u64;
            let open = offset.max(open_from)..end;
            if open.start < open.end {
                let bytes = read_any(io, capacity, open.clone()).map_err(|error| {
                    failed = Some(error);
                    io::Error::from(io::ErrorKind::Other)
                })?;
                out[(open.start - offset) as usize..].copy_from_slice(&bytes);
            }
            for (start, bytes) in &self.parts {
                let common = offset.max(*start)..end.min(start + bytes.len() as u64);
                if common.start < common.end {
                    let to = (common.start - offset) as usize..(common.end - offset) as usize;
                    let from = (common.start - start) as usize..(common.end - start) as usize;
                    out[to].copy_from_slice(&bytes[from]);
                }
            }
            Ok(())
        });
        match (found, failed) {
            (Ok(found), _) => Ok(found),
            (Err(_), Some(error)) => Err(error),
            (Err(error), None) => Err(Error::Resource {
                what: "a look at the device",
                why: error.to_string(),
            }),
        }
    }
}

/// Any bytes of the device. `read` takes whole blocks, but for the end of a device that has a part of one there.
fn read_any(io: &mut MetaIo, capacity: u64, range: Range<u64>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
    while range.start + (bytes.len() as u64) < range.end {
        let from = range.start + bytes.len() as u64;
        let start = from / BLOCK * BLOCK;
        let end = range.end.next_multiple_of(BLOCK).min(capacity);
        let len = PIECE.min((end - start) as usize);
        let piece = read(io, start, len)?;
        let wanted = (from - start) as usize..len.min((range.end - start) as usize);
        bytes.extend_from_slice(&piece[wanted]);
    }
    Ok(bytes)
}

/// Reads a piece; block by block if it cannot be read as a whole. Blocks that cannot be read are zero.
fn read(io: &mut MetaIo, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
    match io.read(offset, len) {
        Ok(bytes) => return Ok(bytes[..len].to_vec()),
        Err(error) if !error.is_damage() => return Err(error),
        Err(_) => {}
    }
    let mut bytes = vec![0; len];
    for at in (0..len).step_by(FORMAT_BLOCK) {
        let part = FORMAT_BLOCK.min(len - at);
        match io.read(offset + at as u64, part) {
            Ok(block) => bytes[at..at + part].copy_from_slice(&block[..part]),
            Err(error) if !error.is_damage() => return Err(error),
            Err(_) => {}
        }
    }
    Ok(bytes)
}
