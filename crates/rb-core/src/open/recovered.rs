//! Result of recovery for the open store.

use rb_format::{FORMAT_BLOCK, Geometry, LogPosition, Superblock};
use rb_index::Index;
use rb_io::{Device, Engine};

use crate::background::checkpoint::BasePlace;
use crate::io::headers::FoundBase;
use crate::io::unwritable::FailedWrite;
use crate::log::chain::Copies;
use crate::log::delta::Retained;
use crate::log::incarnations::Opened;
use crate::log::mend::HeaderCopy;
use crate::log::quarantine::Quarantine;
use crate::open::retest::retest;
use crate::open::space::allocate_again;
use crate::options::StoreOptions;
use crate::report::{Foreign, RecoveryReport};

/// The recovered index, and where the log and the bases continue.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) report: RecoveryReport,
    /// Position at which the log continues.
    pub(crate) end: LogPosition,
    /// The base that replay started from; `None` if a new one must be written first.
    pub(crate) newest: Option<BasePlace>,
    /// The first block that the ring must keep: the older valid base's position.
    pub(crate) tail: u64,
    /// The highest base sequence seen.
    pub(crate) base_sequence: u64,
    /// The session that ended the log with a close record.
    pub(crate) closed_by: Option<u32>,
    /// The highest incarnation seen in any record.
    pub(crate) incarnation: u32,
    pub(crate) bad_slots: Vec<u32>,
    /// Metadata blocks that could not be written in the past, as format block numbers.
    pub(crate) bad_blocks: Vec<u64>,
    /// Sequence at which the log is damaged, if that is why metadata was lost.
    pub(crate) lost_block: Option<u64>,
    /// Log blocks that are in one ring only.
    pub(crate) copies: Copies,
    /// Checksums of blocks that do not belong to the log although they fit its chain.
    pub(crate) refuted: Vec<u64>,
    /// Headers that are in one of their two places only.
    pub(crate) header_copies: Vec<HeaderCopy>,
}

impl Recovered {
    /// An empty store whose first base is in `region`.
    pub(crate) fn empty(
        index: Index,
        region: usize,
        end: LogPosition,
        incarnation: u32,
        foreign: Vec<Foreign>,
    ) -> Recovered {
        let position = end.sequence;
        Recovered {
            index,
            report: RecoveryReport {
                started_empty: true,
                clean: true,
                foreign,
                ..RecoveryReport::default()
            },
            end,
            newest: Some(BasePlace {
                region,
                position,
                blocks: 0,
            }),
            tail: position,
            base_sequence: 1,
            closed_by: None,
            incarnation,
            bad_slots: Vec::new(),
            bad_blocks: Vec::new(),
            lost_block: None,
            copies: Copies::default(),
            refuted: Vec::new(),
            header_copies: Vec::new(),
        }
    }

    /// The part of the log that the recovered bases need.
    pub(crate) fn retained(&self) -> Retained {
        let newest = self.newest.as_ref();
        Retained {
            tail: self.tail,
            newest: newest.map_or(self.end.sequence, |base| base.position),
            base_blocks: newest.map_or(0, |base| base.blocks),
        }
    }

    /// Region and log position of a base.
    pub(crate) fn place_of(base: &FoundBase) -> BasePlace {
        BasePlace::new(base.region, &base.header)
    }

    /// Tests the bad slots and frees those that take writes again. The session must own the store.
    pub(crate) fn forgive_slots(
        &mut self,
        engine: &dyn Engine,
        geometry: &Geometry,
        options: &StoreOptions,
    ) {
        let Recovered {
            index,
            bad_slots,
            report,
            ..
        } = self;
        report.forgiven_slots = retest(engine, geometry, index, bad_slots, options);
        report.bad_slots = bad_slots.len();
    }

    /// Allocates the space that a file's metadata lacks. The session must own the store.
    pub(crate) fn allocate(&mut self, device: Option<&Device>, superblock: &Superblock) {
        let lacking = |device| allocate_again(device, superblock);
        self.report.unallocated = device.and_then(lacking);
    }

    /// Moves the slots that stay bad into a quarantine. `slots` is the size of the store.
    pub(crate) fn take_quarantine(&mut self, slots: u32) -> Quarantine {
        Quarantine::new(std::mem::take(&mut self.bad_slots), slots)
    }

    /// Copies the known bad slots and blocks into the report.
    pub(crate) fn report_bad(&mut self) {
        let blocks = self.bad_blocks.iter();
        self.report.bad_blocks = blocks.map(|block| block * FORMAT_BLOCK as u64).collect();
        self.report.bad_blocks.sort_unstable();
        self.report.bad_blocks.dedup();
        self.report.bad_slots = self.bad_slots.len();
    }

    /// Returns whether the newest session named in the incarnation blocks closed the log, or there
    /// never was one.
    pub(crate) fn is_clean(&self, newest_opening: Option<u32>) -> bool {
        match self.closed_by {
            Some(closer) => newest_opening.is_none_or(|newest| newest <= closer),
            None => newest_opening.is_none() && self.report.lost_metadata.is_none(),
        }
    }
}

/// A store that this session has taken over.
pub(crate) struct Taken {
    pub(crate) recovered: Recovered,
    pub(crate) incarnation: Opened,
    /// Blocks that the device did not take.
    pub(crate) refused: Vec<FailedWrite>,
}
