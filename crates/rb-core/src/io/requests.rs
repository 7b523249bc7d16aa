//! Statistics of the device's requests, by what they are for.

use std::sync::Arc;

use rb_io::{Lane, OpKind, RequestStats};

use crate::stats::{DeviceStats, KindStats};

/// Where the lanes of a store count their requests; `None` if they do not.
#[derive(Debug, Default)]
pub(crate) struct Requests(Option<Purposes>);

#[derive(Debug, Default)]
struct Purposes {
    values: Arc<RequestStats>,
    log: Arc<RequestStats>,
    base: Arc<RequestStats>,
    upkeep: Arc<RequestStats>,
}

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

impl Requests {
    pub(crate) fn new(counted: bool) -> Requests {
        Requests(counted.then(Purposes::default))
    }

    /// Counts the requests of a lane.
    pub(crate) fn count(&self, lane: &mut Lane, purpose: Purpose) {
        if let Some(purposes) = &self.0 {
            let stats = match purpose {
                Purpose::Values => &purposes.values,
                Purpose::Log => &purposes.log,
                Purpose::Base => &purposes.base,
                Purpose::Upkeep => &purposes.upkeep,
            };
            lane.count_in(Arc::clone(stats));
        }
    }

    pub(crate) fn stats(&self) -> DeviceStats {
        let Some(purposes) = &self.0 else {
            return DeviceStats::default();
        };
        let kinds = |stats: &RequestStats| KindStats {
            read: stats.completed(OpKind::Read),
            write: stats.completed(OpKind::Write),
            flush: stats.completed(OpKind::Flush),
            discard: stats.completed(OpKind::Discard),
        };
        let Purposes {
            values,
            log,
            base,
            upkeep,
        } = purposes;
        let all = [values, log, base, upkeep];
        let in_flight = all.map(|stats| stats.in_flight());
        DeviceStats {
            values: kinds(values),
            log: kinds(log),
            base: kinds(base),
            upkeep: kinds(upkeep),
            in_flight: in_flight.iter().map(|(count, _)| count).sum(),
            oldest: in_flight.iter().filter_map(|(_, age)| *age).max(),
        }
    }
}
