//! Recognizes a device that holds nothing of value: zeros, or the remains of a format of zeros that was killed.

use std::io;

use rb_format::{
    BaseHeader, FORMAT_BLOCK, Generation, Identity, LifetimeCounters, LogPosition, METADATA_START,
    SUPERBLOCK_B_OFFSET, StoreUuid, Superblock, encode_directory,
    magic::{MAGIC_BASE_HEADER, MAGIC_SUPERBLOCK},
};
use rb_io::{Device, DeviceKind};

/// Bytes that are read at most before a device counts as one that holds something: about a second.
const LOOK_MAX: u64 = 1 << 30;
const PIECE: usize = 1 << 20;
/// Blocks that are compared at most. A format leaves two headers, and others of another layout keep theirs.
const REMAINS_MAX: usize = 64;
/// The smallest unit that a device writes atomically, in bytes.
const SECTOR: usize = 512;

/// Returns whether a file or device of `bytes` bytes is zero except for empty base headers and one torn superblock: a
/// format writes nothing else before its store exists. Returns false for one that takes too long to read; holes of a file
/// take no time.
pub(crate) fn holds_nothing(device: &Device, bytes: u64) -> io::Result<bool> {
    if is_too_large(device, bytes) {
        return Ok(false);
    }
    let mut piece = vec![0; PIECE];
    let mut remains = Vec::new();
    let (mut at, mut looked) = (0, 0);
    while let Some(data) = device.next_data(at)?.filter(|data| *data < bytes) {
        if looked >= LOOK_MAX {
            return Ok(false);
        }
        at = data / FORMAT_BLOCK as u64 * FORMAT_BLOCK as u64;
        device.peek(at, &mut piece)?;
        for (block, offset) in piece.chunks(FORMAT_BLOCK).zip((at..).step_by(FORMAT_BLOCK)) {
            if is_zero(block) {
                continue;
            }
            // Stop at the first foreign block: most devices that hold something have one early.
            let may_be_ours = offset >= METADATA_START || offset == SUPERBLOCK_B_OFFSET;
            if !may_be_ours || remains.len() == REMAINS_MAX {
                return Ok(false);
            }
            remains.push((offset, block.to_vec()));
        }
        at += PIECE as u64;
        looked += PIECE as u64;
    }
    Ok(are_remains(&remains))
}

/// Returns whether reading the whole device would take too long. A file may have holes, which take no time.
pub(crate) fn is_too_large(device: &Device, bytes: u64) -> bool {
    device.kind() != DeviceKind::File && bytes > LOOK_MAX
}

/// Returns whether blocks that are not zero were all written by formats that did not end.
fn are_remains(blocks: &[(u64, Vec<u8>)]) -> bool {
    let is_header = |offset: u64| offset >= METADATA_START;
    // An empty header follows from its UUID. A torn one without its first sector has none, so another must name it.
    let uuids = blocks.iter().filter_map(|(offset, block)| {
        let is_named = is_header(*offset) && block.starts_with(&MAGIC_BASE_HEADER);
        is_named.then(|| uuid_at(block, 16)).flatten()
    });
    let headers: Vec<_> = uuids
        .map(|uuid| {
            let position = LogPosition {
                sequence: 1,
                anchor: 0,
            };
            let header = empty_base(Identity { uuid, epoch: 1 }, position, Outliving::default());
            (uuid, header.encode())
        })
        .collect();
    blocks
        .iter()
        .all(|(offset, block)| match is_header(*offset) {
            true => headers.iter().any(|(_, whole)| is_torn(block, &whole[..])),
            false => headers
                .iter()
                .any(|(uuid, _)| is_torn_superblock(block, *uuid)),
        })
}

fn uuid_at(block: &[u8], offset: usize) -> Option<StoreUuid> {
    let bytes = block.get(offset..offset + 16)?;
    bytes.try_into().ok().map(StoreUuid)
}

/// Returns whether each sector is zero or that of `whole`.
fn is_torn(block: &[u8], whole: &[u8]) -> bool {
    let sectors = block.chunks(SECTOR).zip(whole.chunks(SECTOR));
    let mut is_each = sectors.map(|(found, whole)| found == whole || is_zero(found));
    is_each.all(|is_it| is_it)
}

/// Returns whether the block is superblock B of a format whose base headers are on the device, in part. A whole one is a
/// store, and one of another version belongs to another program.
fn is_torn_superblock(block: &[u8], uuid: StoreUuid) -> bool {
    let is_refused = Superblock::decode(block).is_err_and(|why| !why.is_unknown_version());
    let is_ours = block.starts_with(&MAGIC_SUPERBLOCK) && uuid_at(block, 24) == Some(uuid);
    // Without the first sector, only the checksum is left of a store with one class.
    let is_checksum = is_zero(&block[..FORMAT_BLOCK - 8]);
    is_refused && (is_ours || is_checksum)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

/// Knowledge that outlives the content of a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outliving {
    /// Ascending, each once.
    pub(crate) bad_slots: Vec<u32>,
    /// Numbers of format blocks.
    pub(crate) bad_blocks: Vec<u64>,
    pub(crate) lifetime: LifetimeCounters,
}

/// Returns the header of the first, empty base of an epoch.
pub(crate) fn empty_base(
    identity: Identity,
    position: LogPosition,
    outliving: Outliving,
) -> BaseHeader {
    let base_sequence = 1;
    let directory = encode_directory(&[], &identity, base_sequence);
    BaseHeader {
        identity,
        base_sequence,
        incarnation: 0,
        position,
        generation_floor: Generation(0),
        recency_now: 0,
        entries: 0,
        sections: 0,
        directory_offset: FORMAT_BLOCK as u64,
        directory_len: directory.len,
        directory_checksum: directory.checksum,
        lifetime: outliving.lifetime,
        bad_blocks: outliving.bad_blocks,
        bad_slots: outliving.bad_slots,
    }
}
