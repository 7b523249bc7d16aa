//! Detects another program's data in the fixed blocks and the unused areas (C8).
//!
//! A format zeroes the unused areas, and no crash of this program leaves another tool's signature
//! in a fixed block. Such data means that the device has been given to another program since.
//! Slots, bases and logs are never inspected for it, because values may contain anything. Detection
//! never writes.

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

/// Bytes per read.
const PIECE: usize = 256 << 10;
const BLOCK: u64 = FORMAT_BLOCK as u64;

/// Lists the signatures on a device without a usable superblock, as text.
pub(crate) fn signatures(io: &mut MetaIo, capacity: u64) -> Result<Option<String>, Error> {
    let found = all_signatures(io, capacity)?;
    Ok((!found.is_empty()).then(|| list(&found)))
}

/// Returns every signature on a device without a usable superblock.
pub(crate) fn all_signatures(io: &mut MetaIo, capacity: u64) -> Result<Vec<Foreign>, Error> {
    let found = View::default().signatures(io, capacity, 0)?;
    Ok(found.into_iter().map(Foreign::from).collect())
}

/// Returns the foreign data in fixed blocks that are not whole and in unused areas.
///
/// Signatures behind the layout count, too: the device may be larger than the store, and some tools
/// keep their label at the very end.
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
        // A signature's name is more helpful than "not zero".
        if !found.iter().any(|found| area.contains(&found.offset)) {
            let what = "bytes that are not zero in an unused area".to_owned();
            found.push(Foreign { what, offset });
        }
    }
    found.sort_by_key(|found| found.offset);
    Ok(found)
}

/// Refuses to write to a device with another program's data, unless forced.
pub(crate) fn check(path: &Path, found: &[Foreign], force: bool) -> Result<(), OpenError> {
    if found.is_empty() || force {
        return Ok(());
    }
    Err(OpenError::Foreign {
        path: path.to_path_buf(),
        found: found.to_vec(),
    })
}

/// Returns the highest incarnation of this epoch that left a trace outside the incarnation blocks,
/// as far as that is known without recovery: the base headers and the first log block after the
/// newest base are read.
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

/// Describes the superblock copies that are neither whole nor going to be repaired.
pub(crate) fn left_alone(copies: &[BlockAt<Superblock>; 2], newest: &Superblock) -> Vec<String> {
    let is_left = |copy: &&BlockAt<Superblock>| {
        copy.decoded.as_ref() != Ok(newest) && !is_to_repair(copy, newest)
    };
    let words = |copy: &BlockAt<Superblock>| match &copy.decoded {
        Ok(_) => format!("at byte {}: it differs from the other copy", copy.offset),
        Err(why) => format!("at byte {}: {}", copy.offset, why.reason()),
    };
    copies.iter().filter(is_left).map(words).collect()
}

/// Reports that both incarnation blocks are gone although a session wrote to the store: a crash
/// leaves at least one. `last` is the highest incarnation that left a trace elsewhere.
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
        // Until the second session block A is as the format left it, and must count as ours:
        // otherwise a single bad block would cost the store.
        let untouched = |bytes: &[u8]| {
            last < 2 && block.offset == INCARNATION_A_OFFSET && bytes.iter().all(|byte| *byte == 0)
        };
        let is_left = |bytes| torn(bytes) || untouched(bytes);
        is_sound(&block.decoded) || block.part().is_some_and(|(_, bytes)| is_left(bytes))
    };
    let lost = last > 0 && !incarnations.iter().any(is_ours);
    let is_erased =
        |block: &BlockAt<Incarnation>| block.part().is_some_and(|(_, bytes)| is_zero(bytes));
    let what = match incarnations.iter().all(is_erased) {
        true => "zeros",
        false => "something else",
    };
    lost.then(|| Foreign {
        what: format!("{what} in the place of both incarnation blocks"),
        offset: INCARNATION_A_OFFSET,
    })
}

/// Blocks of an earlier epoch are sound: they stay until they are overwritten.
fn is_sound(decoded: &Result<Incarnation, Corruption>) -> bool {
    matches!(decoded, Ok(_) | Err(Corruption::WrongEpoch { .. }))
}

/// Returns whether a writing session rewrites this copy: a crash, or a device that lost the block,
/// can leave it so. Anything else may belong to another program.
pub(crate) fn is_to_repair(copy: &BlockAt<Superblock>, newest: &Superblock) -> bool {
    match (&copy.decoded, copy.part()) {
        (Ok(found), _) => found.sequence < newest.sequence,
        (Err(_), Some((_, bytes))) => newest.may_be_torn(bytes),
        (Err(_), None) => copy.unreadable.is_some(),
    }
}

/// Takes the device back for the store: rewrites both superblock copies, and zeroes unsound
/// incarnation blocks and the unused areas. Foreign data there is lost.
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
        // Failed writes are ignored here and below: nothing depends on these blocks.
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

/// Zeroes an area of whole blocks. Writes only blocks that are not zero, which on most devices is
/// none. Returns why a block could not be written, if any.
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

/// Returns whether all bytes are zero. Branches once per block, which makes it as fast as memory.
fn is_zero(bytes: &[u8]) -> bool {
    let zero = |block: &[u8]| block.iter().fold(0, |all, byte| all | byte) == 0;
    bytes.chunks(FORMAT_BLOCK).all(zero)
}

/// The inspected parts of the device; everything else reads as zeros.
#[derive(Default)]
struct View {
    parts: Vec<(u64, Vec<u8>)>,
}

impl View {
    fn add(&mut self, offset: u64, bytes: &[u8]) {
        self.parts.push((offset, bytes.to_vec()));
    }

    /// Adds the pieces of an area that are not zero and returns the offset of the first such byte.
    /// Unreadable blocks are ignored.
    fn add_area(&mut self, io: &mut MetaIo, area: Range<u64>) -> Result<Option<u64>, Error> {
        let starts = area.clone().step_by(PIECE);
        let pieces: Vec<_> = starts
            .map(|at| (at, PIECE.min((area.end - at) as usize)))
            .collect();
        let mut first = None;
        for (&(at, len), answer) in pieces.iter().zip(io.read_many(&pieces)?) {
            // The common case, on the path of every open.
            if matches!(&answer, Ok(bytes) if is_zero(&bytes[..len])) {
                continue;
            }
            let bytes = match answer {
                Ok(bytes) => bytes[..len].to_vec(),
                // Block by block: one bad sector must not hide its neighbours.
                Err(_) => read(io, at, len)?,
            };
            if let Some(position) = bytes.iter().position(|byte| *byte != 0) {
                first = first.or(Some(at + position as u64));
                self.parts.push((at, bytes));
            }
        }
        Ok(first)
    }

    /// Finds the signatures in the view of a device of `capacity` bytes. From byte `open_from` on,
    /// the device itself is read.
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

/// Reads any byte range of the device. `read` takes whole blocks, except for a partial last block.
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

/// Reads a range; block by block if it cannot be read as a whole. Unreadable blocks read as zeros.
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
