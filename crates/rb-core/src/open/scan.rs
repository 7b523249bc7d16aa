//! Rebuilds the index from slot headers when metadata is lost.
//!
//! A header proves that its key was put into its slot in this epoch, but not that the key was not
//! removed later. Removed keys may therefore return, which the report states.

use rb_format::{FORMAT_BLOCK, Geometry, SlotHeader, Superblock};
use rb_index::{Loader, NewEntry, SlotId};

use crate::error::Error;
use crate::io::meta_io::{MetaIo, ReadAt};
use crate::io::pace::Pace;
use crate::memory::check_entries;
use crate::report::ScanReport;

/// Number of headers for which memory is checked together.
const TOGETHER: u64 = 4096;

/// Loads an entry for every valid slot header. Also returns the highest incarnation seen.
pub(crate) fn scan(
    io: &mut MetaIo,
    superblock: &Superblock,
    geometry: &Geometry,
    loader: &Loader<'_>,
) -> Result<(ScanReport, u32), Error> {
    let mut report = ScanReport {
        slots: u64::from(geometry.slots()),
        ..ScanReport::default()
    };
    let (mut incarnation, mut refused) = (0, None);
    let bytes_max = u64::from(superblock.key_len_max) + u64::from(superblock.metadata_len_max);
    let reads = (0..geometry.slots()).filter_map(|slot| {
        let offset = geometry.slot_offset(slot)?;
        Some(ReadAt {
            tag: slot as usize,
            offset,
            len: FORMAT_BLOCK,
        })
    });
    io.read_each(&mut Pace::full(), reads, |tag, block| {
        let Ok(block) = block else {
            report.unreadable += 1;
            return;
        };
        let Ok(header) = SlotHeader::decode(&block[..FORMAT_BLOCK], &superblock.identity) else {
            return;
        };
        let capacity = geometry
            .class_of(header.slot)
            .map_or(0, |class| geometry.class_capacity(class));
        if header.slot as usize != tag
            || header.key.len() > superblock.key_len_max as usize
            || header.metadata.len() > superblock.metadata_len_max as usize
            || u64::from(header.payload_len) > capacity
            || !header.more.is_empty()
        {
            return;
        }
        if report.headers.is_multiple_of(TOGETHER) && refused.is_none() {
            refused = check_entries(TOGETHER, TOGETHER * bytes_max).err();
        }
        if refused.is_some() {
            return;
        }
        report.headers += 1;
        incarnation = incarnation.max(header.generation.incarnation());
        let entry = NewEntry {
            slot: SlotId(header.slot),
            more: &[],
            payload_len: header.payload_len,
            payload_checksum: header.payload_checksum,
            placement: header.placement,
            expiry: 0,
            metadata: &header.metadata,
            verified: false,
        };
        // Headers carry no recency, so all entries start with the same.
        loader.load(
            loader.hash(&header.key),
            &header.key,
            entry,
            header.generation.0,
            0,
        );
    })?;
    match refused {
        Some(why) => Err(why),
        None => Ok((report, incarnation)),
    }
}
