//! Reads the incarnation blocks and determines the epoch in force.

use rb_format::Superblock;

use crate::error::OpenError;
use crate::io::block_at::BlockAt;
use crate::io::headers::read_headers;
use crate::io::meta_io::MetaIo;
use crate::io::superblocks::{Superblocks, check_numbers};
use crate::io::whose;
use crate::log::incarnations::{Pair, later_epoch, read_pair};
use crate::open::recover::no_base;

/// Reads the incarnation blocks of the superblock's epoch.
pub(crate) fn read_blocks(io: &mut MetaIo, superblock: &Superblock) -> Result<Pair, OpenError> {
    read_pair(io, &superblock.identity).map_err(|source| OpenError::Io {
        what: "reading the incarnation blocks",
        source,
    })
}

/// Reads the incarnation blocks and completes a start-empty that a crash cut short: `found` then
/// holds the superblock that it was about to write, and marks the `copies` to be repaired that it
/// would have overwritten.
pub(crate) fn read_openings(
    io: &mut MetaIo,
    copies: &[BlockAt<Superblock>; 2],
    found: &mut Superblocks,
) -> Result<Pair, OpenError> {
    let known = read_blocks(io, &found.newest)?;
    let Some(epoch) = later_epoch(&known, &found.newest.identity) else {
        return Ok(known);
    };
    let mut superblock = found.newest.clone();
    let later = epoch - superblock.identity.epoch;
    superblock.sequence = superblock.sequence.saturating_add(later);
    superblock.identity.epoch = epoch;
    let numbers = [
        ("superblock sequence", superblock.sequence),
        ("epoch", epoch),
    ];
    // A start-empty makes its base durable before the block. Without a base, or with implausible
    // numbers, the block is not from a session of this store.
    if check_numbers(&numbers).is_err()
        || read_headers(io, &superblock)
            .map_err(no_base)?
            .found
            .is_empty()
    {
        return Ok(known);
    }
    found.newest = superblock;
    found.repair = [0, 1].map(|copy| whose::is_to_repair(&copies[copy], &found.newest));
    read_blocks(io, &found.newest)
}

/// The error of an open that lost against another host.
pub(crate) fn contended(why: &str) -> OpenError {
    OpenError::Contended { why: why.into() }
}
