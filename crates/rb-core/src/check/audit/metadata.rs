//! The recovery of an audit, held against the fixed blocks.

use rb_format::Superblock;

use super::shared::Audit;
use crate::error::OpenError;
use crate::io::block_at::BlockAt;
use crate::log::incarnations::{Pair, newest_number};
use crate::open::recover_options::RecoverOptions;
use crate::open::recovered::Recovered;

impl Audit<'_> {
    /// Recovers as an opening does, and notes what that and the fixed blocks show.
    pub(super) fn metadata(
        &mut self,
        copies: &[BlockAt<Superblock>; 2],
        known: &Pair,
        capacity: u64,
        how: &RecoverOptions,
    ) -> Result<Recovered, OpenError> {
        self.incarnations(known);
        let mut foreign = self.foreign(copies, known, capacity)?;
        let recovered = how.recover(&mut self.io, self.superblock, self.geometry)?;
        // An opening that wrote more than its incarnation block had repaired both before.
        self.copies(copies, recovered.incarnation > 0);
        self.report
            .recovered(&recovered, recovered.is_clean(newest_number(known)));
        if let (true, Some(closer)) = (self.report.clean, recovered.closed_by) {
            let crashed = self.last_crash(closer)?;
            self.settled_from = Some(crashed.map_or(0, |crashed| crashed + 1));
        }
        self.openings_agree(known, &recovered);
        let lost = self.lost_incarnations(known, &recovered);
        self.somebody_elses(&foreign);
        // The finding about the incarnation blocks says it already.
        foreign.extend(lost);
        self.report.foreign = foreign;
        self.lost(&recovered);
        self.bad_blocks(&recovered);
        Ok(recovered)
    }
}
