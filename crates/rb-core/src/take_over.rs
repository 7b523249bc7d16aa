//! What an opening finds, and for writing, how it takes the store over: the steps of [`crate::incarnations`].

use std::path::Path;

use rb_format::{Geometry, LogPosition, Superblock};

use crate::base_load::empty_index;
use crate::boot::{Superblocks, check_numbers, check_unchanged, write_superblock};
use crate::chain::Copies;
use crate::checkpoint::BasePlace;
use crate::cut;
use crate::error::OpenError;
use crate::format_device::write_empty_base;
use crate::headers::{HeaderPlace, PlaceState, read_headers};
use crate::incarnations::{
    Opened, Pair, agree, begin, begin_twice, later_epoch, newest_number, read_pair,
};
use crate::meta_io::MetaIo;
use crate::options::StoreOptions;
use crate::placed::Placed;
use crate::recover::{RecoverOptions, Recovered, RecoveryReport, forget_slots, no_base, recover};
use crate::replay::log_went_on;
use crate::unwritable::FailedWrite;
use crate::whose::{self, Foreign};

/// How often an opening for writing recovers because another host goes on writing or opens the store too.
const ATTEMPTS: usize = 3;

/// How a store is to be opened.
pub(crate) struct Opening<'a> {
    pub(crate) path: &'a Path,
    pub(crate) capacity: u64,
    pub(crate) copies: &'a [Placed<Superblock>; 2],
    pub(crate) geometry: &'a Geometry,
    pub(crate) shards: u32,
    pub(crate) options: &'a StoreOptions,
}

/// A store that is this opening's own to write.
pub(crate) struct Taken {
    pub(crate) recovered: Recovered,
    pub(crate) incarnation: Opened,
    /// Blocks that the device did not take.
    pub(crate) refused: Vec<FailedWrite>,
}

impl Opening<'_> {
    /// Recovers, and writes nothing.
    pub(crate) fn look(
        &self,
        io: &mut MetaIo,
        found: &mut Superblocks,
    ) -> Result<Recovered, OpenError> {
        let known = read_openings(io, self.copies, found)?;
        let foreign = self.foreign(io, &found.newest, &known)?;
        let mut recovered = self.recover(io, &found.newest)?;
        self.report(&mut recovered, &found.newest, &known, foreign)?;
        Ok(recovered)
    }

    /// Recovers, and takes the store over.
    ///
    /// # Errors
    /// `Contended` if another host opens or writes the store meanwhile; it is left to that one.
    pub(crate) fn take_over(
        &self,
        io: &mut MetaIo,
        found: &mut Superblocks,
    ) -> Result<Taken, OpenError> {
        if self.options.start_empty {
            return self.start_empty(io, found);
        }
        let random = self.options.random.as_ref();
        let began_with = found.clone();
        for _ in 0..ATTEMPTS {
            // A later epoch that the last attempt saw may be no more.
            found.clone_from(&began_with);
            let known = read_openings(io, self.copies, found)?; // 1
            let foreign = self.foreign(io, &found.newest, &known)?;
            let mut recovered = self.recover(io, &found.newest)?; // 2
            self.report(&mut recovered, &found.newest, &known, foreign.clone())?;
            whose::check(self.path, &recovered.report.foreign, self.options.force)?;
            if !agree(&known, &read(io, &found.newest)?) {
                continue; // 3
            }
            check_numbers(&[
                ("log sequence", recovered.end.sequence),
                ("base sequence", recovered.base_sequence),
            ])?;
            let identity = found.newest.identity;
            let (incarnation, refused) =
                begin(io, identity, &known, recovered.incarnation, random)?; // 4, 5
            check_unchanged(io, self.capacity, &found.newest)?;
            for _ in 0..ATTEMPTS {
                let went_on = log_went_on(io, &found.newest, &recovered).map_err(|source| {
                    let what = "reading on at the end of the log";
                    OpenError::Io { what, source }
                })?;
                if !went_on {
                    return Ok(Taken {
                        recovered,
                        incarnation,
                        refused,
                    });
                }
                recovered = self.recover(io, &found.newest)?; // 6
                self.report(&mut recovered, &found.newest, &known, foreign.clone())?;
                if recovered.incarnation >= incarnation.number() {
                    return Err(contended("it had the same number, and has written with it"));
                }
            }
            return Err(contended("its log has grown with each look at it"));
        }
        Err(contended("it was opened again during each look at it"))
    }

    /// What shows that the device was given to something else, without what only recovery shows.
    fn foreign(
        &self,
        io: &mut MetaIo,
        superblock: &Superblock,
        known: &Pair,
    ) -> Result<Vec<Foreign>, OpenError> {
        whose::look(io, self.capacity, superblock, self.copies, known).map_err(|source| {
            let what = "looking at the unused areas";
            OpenError::Io { what, source }
        })
    }

    /// Completes the report.
    ///
    /// # Errors
    /// The device is too small for what was recovered.
    fn report(
        &self,
        recovered: &mut Recovered,
        superblock: &Superblock,
        known: &Pair,
        mut foreign: Vec<Foreign>,
    ) -> Result<(), OpenError> {
        let last = recovered.incarnation;
        foreign.extend(whose::lost_incarnations(known, &superblock.identity, last));
        cut::check_recovered(
            self.path,
            superblock,
            self.geometry,
            self.capacity,
            recovered,
        )?;
        recovered.report_bad();
        let clean = recovered.is_clean(newest_number(known));
        let report = &mut recovered.report;
        report.cut_to = (superblock.device_bytes > self.capacity).then_some(self.capacity);
        report.foreign = foreign;
        report.superblock_left = whose::left_alone(self.copies, superblock);
        report.clean = clean;
        Ok(())
    }

    fn recover(&self, io: &mut MetaIo, superblock: &Superblock) -> Result<Recovered, OpenError> {
        let options = RecoverOptions {
            on_lost_metadata: self.options.on_lost_metadata,
            check_order: cfg!(debug_assertions) || self.options.simulator.is_some(),
        };
        recover(io, superblock, self.geometry, self.shards, options)
    }

    /// Drops everything by a new epoch: every older record then belongs to another store.
    ///
    /// The new epoch's base comes first, over the older one of the former epoch. Then the incarnation block: from there on
    /// an opening finds the store empty, and finishes this if it was cut short. The superblock's copies come last: rot of
    /// the one that was written does not bring the former epoch back.
    fn start_empty(&self, io: &mut MetaIo, found: &mut Superblocks) -> Result<Taken, OpenError> {
        let failed = |what| move |source| OpenError::Io { what, source };
        let known = read_openings(io, self.copies, found)?;
        let mut foreign = self.foreign(io, &found.newest, &known)?;
        let last = whose::last_opening(io, &found.newest).map_err(no_base)?;
        foreign.extend(whose::lost_incarnations(
            &known,
            &found.newest.identity,
            last,
        ));
        whose::check(self.path, &foreign, self.options.force)?;
        check_numbers(&[
            ("superblock sequence", found.newest.sequence),
            ("epoch", found.newest.identity.epoch),
        ])?;
        let headers = read_headers(io, &found.newest).map_err(no_base)?;
        // What is known of the medium outlives its content.
        let bad_blocks = headers.bad_blocks();
        let mut bad_slots = headers.bad_slots();
        bad_slots.sort_unstable();
        bad_slots.dedup();
        let region = headers.found.first().map_or(0, |newest| 1 - newest.region);
        let mut superblock = found.newest.clone();
        superblock.sequence += 1;
        superblock.identity.epoch += 1;
        let position = LogPosition {
            sequence: 1,
            anchor: 0,
        };
        let place = superblock.bases()[region];
        let header = write_empty_base(io, &superblock, place, position, &bad_slots, &bad_blocks)
            .map_err(failed("writing the first checkpoint base"))?;
        if !agree(&known, &read(io, &found.newest)?) {
            return Err(contended("it was opened while it was to be emptied"));
        }
        // The number goes on, so that a former writer finds that it is not the newest any more.
        let floor = newest_number(&known).unwrap_or(0);
        let random = self.options.random.as_ref();
        let (mut incarnation, mut refused) = begin(io, superblock.identity, &known, floor, random)?;
        check_unchanged(io, self.capacity, &found.newest)?;
        // Another opening of the former epoch may have written a base over it until then.
        let written = read_headers(io, &superblock).map_err(no_base)?;
        let is_ours = |place: &HeaderPlace| {
            place.region != region
                || matches!(place.state, PlaceState::Whole | PlaceState::Unreadable(_))
        };
        if !written.places.iter().all(is_ours) {
            write_empty_base(io, &superblock, place, position, &bad_slots, &bad_blocks)
                .map_err(failed("writing the first checkpoint base"))?;
        }
        let unwritten =
            write_superblock(io, &superblock).map_err(failed("writing the superblocks"))?;
        if !unwritten.is_empty() {
            incarnation = begin_twice(io, incarnation, &mut refused)?;
        }
        refused.extend(unwritten.into_iter().chain(header));
        *found = Superblocks {
            newest: superblock,
            repair: [false, false],
        };
        let index = empty_index(self.geometry, self.shards).map_err(|why| OpenError::Resource {
            what: "the index",
            why: why.to_string(),
        })?;
        let report = RecoveryReport {
            started_empty: true,
            clean: true,
            foreign,
            ..RecoveryReport::default()
        };
        let mut recovered = Recovered {
            index,
            report,
            end: position,
            newest: Some(BasePlace {
                region,
                position: 1,
            }),
            tail: 1,
            base_sequence: 1,
            incarnation: incarnation.number(),
            closed_by: None,
            bad_slots: Vec::new(),
            bad_blocks,
            lost_block: None,
            copies: Copies::default(),
            refuted: Vec::new(),
            header_copies: Vec::new(),
        };
        forget_slots(&mut recovered, bad_slots);
        recovered.report_bad();
        Ok(Taken {
            recovered,
            incarnation,
            refused,
        })
    }
}

fn read(io: &mut MetaIo, superblock: &Superblock) -> Result<Pair, OpenError> {
    read_pair(io, &superblock.identity).map_err(|source| OpenError::Io {
        what: "reading the incarnation blocks",
        source,
    })
}

/// Reads the incarnation blocks, and follows a start with an empty store that was cut short: then the superblock is the
/// one that it was about to write, and those of the `copies` are to be repaired that it would have written over.
pub(crate) fn read_openings(
    io: &mut MetaIo,
    copies: &[Placed<Superblock>; 2],
    found: &mut Superblocks,
) -> Result<Pair, OpenError> {
    let known = read(io, &found.newest)?;
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
    // Its base is durable before the block. Without one, or beyond what is written, the block is no opening's of this store.
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
    read(io, &found.newest)
}

fn contended(why: &str) -> OpenError {
    OpenError::Contended { why: why.into() }
}
