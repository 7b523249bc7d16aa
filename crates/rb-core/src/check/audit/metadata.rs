//! Recovers for an audit and compares the result with the fixed blocks.

use rb_format::Superblock;

use super::shared::Audit;
use crate::error::OpenError;
use crate::io::block_at::BlockAt;
use crate::log::incarnations::{Pair, newest_number};
use crate::open::recover_options::RecoverOptions;
use crate::open::recovered::Recovered;

impl Audit<'_> {
    /// Recovers like an open, and records what that and the fixed blocks show.
    pub(super) fn metadata(
        &mut self,
        copies: &[BlockAt<Superblock>; 2],
        known: &Pair,
        capacity: u64,
        how: &RecoverOptions,
    ) -> Result<Recovered, OpenError> {
        let mut foreign = self.foreign(copies, known, capacity)?;
        let recovered = how.recover(&mut self.io, self.superblock, self.geometry)?;
        let lost = self.lost_incarnations(known, &recovered);
        self.incarnations(known, lost.is_some());
        // A session that wrote more than its incarnation block had repaired both copies first.
        self.copies(copies, recovered.incarnation > 0);
        self.report
            .recovered(&recovered, recovered.is_clean(newest_number(known)));
        if let (true, Some(closer)) = (self.report.clean, recovered.closed_by) {
            let crashed = self.last_crash(closer)?;
            self.settled_from = Some(crashed.map_or(0, |crashed| crashed + 1));
        }
        self.openings_agree(known, &recovered, lost.is_some());
        self.foreign_data(&foreign);
        // Not reported a second time: `openings_agree` has covered the incarnation blocks.
        foreign.extend(lost);
        self.report.foreign = foreign;
        self.lost(&recovered);
        self.bad_blocks(&recovered);
        Ok(recovered)
    }
}
