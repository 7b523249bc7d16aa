//! Rebuilds the index from slot headers when metadata is lost.
//!
//! A header proves that its key was put into its slot in this epoch, but not that the key was not
//! removed later. Removed keys may therefore return, which the report states. A value of several
//! slots is loaded only if the header of each of them is of its put.

use std::collections::HashMap;

use rb_format::{
    AnyHeader, Continuation, FORMAT_BLOCK, Geometry, SlotHeader, SlotHeaderRef, Superblock,
};
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
    let mut found = Several::default();
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
        let Ok(header) = AnyHeader::decode(&block[..FORMAT_BLOCK], &superblock.identity) else {
            return;
        };
        if header.slot() as usize != tag {
            return;
        }
        incarnation = incarnation.max(header.generation().incarnation());
        // Even if its value is not found, the put that wrote the header has overwritten the slot.
        loader.claim_slot(SlotId(header.slot()), header.generation().0);
        let header = match header {
            AnyHeader::First(header) => header,
            AnyHeader::Continuation(header) => return found.add_continuation(header),
        };
        let slots =
            geometry.check_slots("slot header", header.slot, header.more, header.payload_len);
        if header.key.len() > superblock.key_len_max as usize
            || header.metadata.len() > superblock.metadata_len_max as usize
            || slots.is_err()
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
        match header.more.is_empty() {
            true => load(loader, &header, &[]),
            // Whether its other slots belong to it is known once all headers are read.
            false => found.several.push(header.to_owned()),
        }
    })?;
    found.load(loader);
    match refused {
        Some(why) => Err(why),
        None => Ok((report, incarnation)),
    }
}

/// Headers of values of several slots.
#[derive(Default)]
struct Several {
    /// The first header of each value.
    several: Vec<SlotHeader>,
    /// By slot.
    continuations: HashMap<u32, Continuation>,
}

impl Several {
    fn add_continuation(&mut self, header: Continuation) {
        self.continuations.insert(header.slot, header);
    }

    /// Loads the values all of whose slots have the header of the same put.
    fn load(&self, loader: &Loader<'_>) {
        for first in &self.several {
            let more_slots = first.more.len();
            let belongs = |(number, slot): (usize, &u32)| {
                self.continuations.get(slot).is_some_and(|header| {
                    header.generation == first.generation
                        && header.first_slot == first.slot
                        && usize::from(header.number) == number
                        && usize::from(header.more_slots) == more_slots
                })
            };
            if (1..).zip(first.more.iter()).all(belongs) {
                let more: Vec<SlotId> = first.more.iter().copied().map(SlotId).collect();
                load(loader, &first.borrowed(), &more);
            }
        }
    }
}

fn load(loader: &Loader<'_>, header: &SlotHeaderRef<'_>, more: &[SlotId]) {
    let entry = NewEntry {
        slot: SlotId(header.slot),
        more,
        payload_len: header.payload_len,
        payload_checksum: header.payload_checksum,
        placement: header.placement,
        expiry: header.expiry,
        metadata: header.metadata,
        verified: false,
    };
    // Headers carry no recency, so all entries start with the same.
    let hash = loader.hash(header.key);
    loader.load(hash, header.key, entry, header.generation.0, 0);
}
