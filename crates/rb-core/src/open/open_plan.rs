//! The plan of one open, and the steps common to reading and writing.

use std::path::Path;

use rb_format::{Geometry, Superblock};
use rb_io::Device;

use crate::error::OpenError;
use crate::io::block_at::BlockAt;
use crate::io::meta_io::MetaIo;
use crate::io::superblocks::Superblocks;
use crate::io::whose;
use crate::log::incarnations::{Pair, newest_number};
use crate::open::cut;
use crate::open::recover_options::RecoverOptions;
use crate::open::recovered::Recovered;
use crate::open::sessions::read_openings;
use crate::options::StoreOptions;
use crate::report::Foreign;

/// Inputs of one open.
pub(crate) struct OpenPlan<'a> {
    pub(crate) path: &'a Path,
    /// `None` behind an engine that the caller made.
    pub(crate) device: Option<&'a Device>,
    pub(crate) capacity: u64,
    pub(crate) copies: &'a [BlockAt<Superblock>; 2],
    pub(crate) geometry: &'a Geometry,
    pub(crate) how: RecoverOptions,
    pub(crate) options: &'a StoreOptions,
}

impl<'a> OpenPlan<'a> {
    pub(crate) fn new(
        path: &'a Path,
        device: Option<&'a Device>,
        capacity: u64,
        copies: &'a [BlockAt<Superblock>; 2],
        geometry: &'a Geometry,
        options: &'a StoreOptions,
    ) -> Result<OpenPlan<'a>, OpenError> {
        Ok(OpenPlan {
            path,
            device,
            capacity,
            copies,
            geometry,
            how: RecoverOptions::new(geometry, options)?,
            options,
        })
    }

    /// Recovers without writing anything.
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

    /// Finds foreign data, as far as it shows without recovery.
    pub(crate) fn foreign(
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
    /// The device is too small for the entries that were recovered.
    pub(crate) fn report(
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
        let newest = newest_number(known);
        let clean = recovered.is_clean(newest);
        let report = &mut recovered.report;
        report.openings = last.max(newest.unwrap_or(0));
        report.cut_to = (superblock.device_bytes > self.capacity).then_some(self.capacity);
        report.foreign = foreign;
        report.superblock_left = whose::left_alone(self.copies, superblock);
        report.clean = clean;
        Ok(())
    }

    pub(crate) fn recover(
        &self,
        io: &mut MetaIo,
        superblock: &Superblock,
    ) -> Result<Recovered, OpenError> {
        self.how.recover(io, superblock, self.geometry)
    }
}
