//! Statistics of the device's requests, by what they are for.

use std::sync::Arc;

use rb_io::{Lane, OpKind, RequestStats};

use crate::stats::{DeviceStats, KindStats};

/// Where the lanes of a store count their requests, by purpose; `None` if they do not.
#[derive(Debug, Default)]
pub(crate) struct ByPurpose(Option<[Arc<RequestStats>; 4]>);

/// The use of a lane's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Gets and puts.
    Values,
    /// Commits.
    Log,
    /// Checkpoints.
    Base,
    /// Validation, scrubbing and discards.
    Upkeep,
}

impl ByPurpose {
    pub(crate) fn new(counted: bool) -> ByPurpose {
        ByPurpose(counted.then(Default::default))
    }

    /// Counts the requests of a lane.
    pub(crate) fn count(&self, lane: &mut Lane, purpose: Purpose) {
        if let Some(all) = &self.0 {
            lane.count_in(Arc::clone(&all[purpose as usize]));
        }
    }

    pub(crate) fn stats(&self) -> DeviceStats {
        let Some(all) = &self.0 else {
            return DeviceStats::default();
        };
        let kinds = |purpose: Purpose| {
            let completed = |op| all[purpose as usize].completed(op);
            KindStats {
                read: completed(OpKind::Read),
                write: completed(OpKind::Write),
                flush: completed(OpKind::Flush),
                discard: completed(OpKind::Discard),
            }
        };
        let in_flight: Vec<_> = all.iter().map(|stats| stats.in_flight()).collect();
        DeviceStats {
            values: kinds(Purpose::Values),
            log: kinds(Purpose::Log),
            base: kinds(Purpose::Base),
            upkeep: kinds(Purpose::Upkeep),
            in_flight: in_flight.iter().map(|(count, _)| count).sum(),
            oldest: in_flight.iter().filter_map(|(_, age)| *age).max(),
        }
    }
}
