//! Locations of the parts of a store on its device.

use std::ops::Range;

use rb_core::Superblock;
use rb_format::{Geometry, Identity};

/// The parts of a device.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) superblocks: [Range<u64>; 2],
    pub(super) incarnations: Range<u64>,
    pub(super) bases: [Range<u64>; 2],
    pub(super) log: Range<u64>,
    pub(super) log_2: Range<u64>,
    pub(super) slots: Range<u64>,
    pub(super) geometry: Geometry,
    pub(super) identity: Identity,
}

impl Places {
    pub(super) fn new(layout: &Superblock) -> Places {
        let block = rb_format::FORMAT_BLOCK as u64;
        let [a, b] = [
            rb_format::SUPERBLOCK_A_OFFSET,
            rb_format::SUPERBLOCK_B_OFFSET,
        ];
        let range = |region: &rb_format::Region| region.offset..region.offset + region.bytes;
        Places {
            superblocks: [a..a + block, b..b + block],
            incarnations: rb_format::INCARNATION_A_OFFSET..rb_format::INCARNATION_B_OFFSET + block,
            bases: [range(&layout.base_a), range(&layout.base_b)],
            log: range(&layout.log),
            log_2: range(&layout.log_2),
            slots: layout.runs[0].first_byte..layout.log_2.offset,
            geometry: Geometry::new(layout),
            identity: layout.identity,
        }
    }
}
