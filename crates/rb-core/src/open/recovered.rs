//! What recovery hands to the open store.

use rb_format::{FORMAT_BLOCK, Geometry, LogPosition, Superblock};
use rb_index::Index;
use rb_io::{Device, Engine};

use crate::background::checkpoint::BasePlace;
use crate::io::headers::FoundBase;
use crate::io::unwritable::FailedWrite;
use crate::log::chain::Copies;
use crate::log::incarnations::Opened;
use crate::log::mend::HeaderCopy;
use crate::log::quarantine::Quarantine;
use crate::open::retest::retest;
use crate::open::space::allocate_again;
use crate::options::StoreOptions;
use crate::report::{Foreign, RecoveryReport};

/// The index, and where the log and the bases go on.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) report: RecoveryReport,
    /// Where the log goes on.
    pub(crate) end: LogPosition,
    /// The base that replay started from; none if a new one must be written first.
    pub(crate) newest: Option<BasePlace>,
    /// The first block that the ring must keep: the older valid base's position.
    pub(crate) tail: u64,
    /// The highest base sequence seen.
    pub(crate) base_sequence: u64,
    /// The opening that ended the log with a close record.
    pub(crate) closed_by: Option<u32>,
    /// The highest opening seen in any record.
    pub(crate) incarnation: u32,
    pub(crate) bad_slots: Vec<u32>,
    /// Blocks of the metadata that could not be written once.
    pub(crate) bad_blocks: Vec<u64>,
    /// The log block at which the log is damaged, if that is how metadata was lost.
    pub(crate) lost_block: Option<u64>,
    /// Which blocks of the log are in one ring only.
    pub(crate) copies: Copies,
    /// Checksums of blocks that are no part of the log, though they are next in its chain.
    pub(crate) refuted: Vec<u64>,
    /// Headers that are in one of their two places only.
    pub(crate) header_copies: Vec<HeaderCopy>,
}

impl Recovered {
    /// An empty store, whose first base lies in `region`.
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
            newest: Some(BasePlace { region, position }),
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

    /// Where a base is that replay starts from.
    pub(crate) fn place_of(base: &FoundBase) -> BasePlace {
        BasePlace {
            region: base.region,
            position: base.header.position.sequence,
        }
    }

    /// Tests the slots that are known to be bad, and uses those that take writes again. The store is the opening's own.
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

    /// Takes the space that the metadata of a file lacks. The store is the opening's own.
    pub(crate) fn allocate(&mut self, device: Option<&Device>, superblock: &Superblock) {
        let lacking = |device| allocate_again(device, superblock);
        self.report.unallocated = device.and_then(lacking);
    }

    /// The slots that stay out of use, of so many.
    pub(crate) fn take_quarantine(&mut self, slots: u32) -> Quarantine {
        Quarantine::new(std::mem::take(&mut self.bad_slots), slots)
    }

    /// Puts what is known of the medium into the report.
    pub(crate) fn report_bad(&mut self) {
        let blocks = self.bad_blocks.iter();
        self.report.bad_blocks = blocks.map(|block| block * FORMAT_BLOCK as u64).collect();
        self.report.bad_blocks.sort_unstable();
        self.report.bad_blocks.dedup();
        self.report.bad_slots = self.bad_slots.len();
    }

    /// Whether the newest of the openings that incarnation blocks name closed the log, or there never
    /// was one.
    pub(crate) fn is_clean(&self, newest_opening: Option<u32>) -> bool {
        match self.closed_by {
            Some(closer) => newest_opening.is_none_or(|newest| newest <= closer),
            None => newest_opening.is_none() && self.report.lost_metadata.is_none(),
        }
    }
}

/// A store that is this opening's own to write.
pub(crate) struct Taken {
    pub(crate) recovered: Recovered,
    pub(crate) incarnation: Opened,
    /// Blocks that the device did not take.
    pub(crate) refused: Vec<FailedWrite>,
}
