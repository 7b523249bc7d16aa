//! Statistics of requests: how long they took, their bytes, failures, and those in flight.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::histogram::{Histogram, Latency};
use crate::request::OpKind;

/// So many requests may have completed before they are taken out of the order.
const ORDER_MIN: usize = 64;

/// Statistics of the requests of any number of lanes; see [`Lane::count_in`](crate::Lane::count_in).
#[derive(Debug)]
pub struct RequestStats {
    /// Times are counted from here.
    start: Instant,
    /// By the number of the [`OpKind`].
    kinds: [Kind; OpKind::ALL.len()],
    lanes: Mutex<Vec<Weak<InFlight>>>,
}

#[derive(Debug, Default)]
struct Kind {
    took: Histogram,
    bytes: AtomicU64,
    failures: AtomicU64,
}

/// Requests of one operation that have completed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
pub struct Requests {
    /// Durations from [`Lane::start`](crate::Lane::start) to the completion.
    pub latency: Latency,
    /// Bytes of those that succeeded.
    pub bytes: u64,
    /// Number of those that failed.
    pub failures: u64,
}

/// The requests that a lane has in flight.
#[derive(Debug)]
struct InFlight {
    count: AtomicUsize,
    /// Start of the oldest one in nanoseconds; `u64::MAX` if there is none.
    oldest: AtomicU64,
}

impl RequestStats {
    /// Statistics without requests.
    #[must_use]
    pub fn new() -> RequestStats {
        RequestStats {
            start: Instant::now(),
            kinds: Default::default(),
            lanes: Mutex::default(),
        }
    }

    /// Returns the completed requests of an operation.
    #[must_use]
    pub fn completed(&self, op: OpKind) -> Requests {
        let kind = &self.kinds[op as usize];
        Requests {
            latency: kind.took.latency(),
            bytes: kind.bytes.load(Ordering::Relaxed),
            failures: kind.failures.load(Ordering::Relaxed),
        }
    }

    /// Returns the number of requests in flight, and the age of the oldest one.
    #[must_use]
    pub fn in_flight(&self) -> (usize, Option<Duration>) {
        let (mut count, mut oldest) = (0, u64::MAX);
        for lane in self.lanes.lock().iter().filter_map(Weak::upgrade) {
            count += lane.count.load(Ordering::Acquire);
            oldest = oldest.min(lane.oldest.load(Ordering::Relaxed));
        }
        let oldest = (oldest != u64::MAX).then(|| Duration::from_nanos(oldest));
        let age = oldest.map(|oldest| self.start.elapsed().saturating_sub(oldest));
        (count, age)
    }
}

impl Default for RequestStats {
    fn default() -> RequestStats {
        RequestStats::new()
    }
}

/// Counts the requests of one lane.
#[derive(Debug)]
pub(super) struct Counting {
    stats: Arc<RequestStats>,
    in_flight: Arc<InFlight>,
    /// Requests in the order of their start: where the lane has them, and their number. Those that have
    /// completed stay until they are the first, or until they are more than the others.
    order: VecDeque<Counted>,
    open: usize,
    numbered: u64,
}

/// A request that is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// Its place in the lane.
    pub(super) index: usize,
    /// Its number, which no other request of the lane has.
    pub(super) number: u64,
    /// Its start in nanoseconds.
    begun: u64,
}

impl Counting {
    pub(super) fn new(stats: Arc<RequestStats>) -> Counting {
        let in_flight = Arc::new(InFlight {
            count: AtomicUsize::new(0),
            oldest: AtomicU64::new(u64::MAX),
        });
        let mut lanes = stats.lanes.lock();
        lanes.retain(|lane| lane.strong_count() > 0);
        lanes.push(Arc::downgrade(&in_flight));
        drop(lanes);
        Counting {
            stats,
            in_flight,
            order: VecDeque::new(),
            open: 0,
            numbered: 0,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.stats.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counts a request that the lane has at `index`.
    pub(super) fn begin(&mut self, index: usize) -> Counted {
        self.numbered += 1;
        let counted = Counted {
            index,
            number: self.numbered,
            begun: self.now(),
        };
        if self.order.is_empty() {
            self.in_flight
                .oldest
                .store(counted.begun, Ordering::Relaxed);
        }
        self.order.push_back(counted);
        self.open += 1;
        self.in_flight.count.store(self.open, Ordering::Release);
        counted
    }

    /// Ends a request, `Some` bytes long if it succeeded. `is_open` returns which of the others are in
    /// flight.
    pub(super) fn end(
        &mut self,
        counted: Counted,
        op: OpKind,
        bytes: Option<u64>,
        is_open: impl Fn(&Counted) -> bool,
    ) {
        let kind = &self.stats.kinds[op as usize];
        let took = self.now().saturating_sub(counted.begun);
        kind.took.record(Duration::from_nanos(took));
        match bytes {
            Some(bytes) => kind.bytes.fetch_add(bytes, Ordering::Relaxed),
            None => kind.failures.fetch_add(1, Ordering::Relaxed),
        };
        self.open -= 1;
        while let Some(first) = self.order.front()
            && !is_open(first)
        {
            self.order.pop_front();
        }
        // Behind a request that hangs, others may complete for as long as it does.
        if self.order.len() > 2 * self.open + ORDER_MIN {
            self.order.retain(is_open);
        }
        let oldest = self.order.front().map_or(u64::MAX, |first| first.begun);
        self.in_flight.oldest.store(oldest, Ordering::Relaxed);
        // Last: a reader that sees no request in flight sees no oldest one.
        self.in_flight.count.store(self.open, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression test: everything that completed while an older request hung was kept until that one ended.
    #[test]
    fn a_request_that_hangs_keeps_no_others() {
        let stats = Arc::new(RequestStats::new());
        let mut counting = Counting::new(Arc::clone(&stats));
        let hangs = counting.begin(0);
        for _ in 0..10_000 {
            let other = counting.begin(1);
            counting.end(other, OpKind::Read, Some(1), |open| {
                open.number == hangs.number
            });
            assert!(counting.order.len() <= ORDER_MIN + 2);
            assert_eq!(
                counting.order.front().map(|first| first.number),
                Some(hangs.number)
            );
        }
        assert_eq!(stats.in_flight().0, 1);
        assert!(stats.in_flight().1.is_some());
        counting.end(hangs, OpKind::Read, None, |_| false);
        assert_eq!(stats.in_flight(), (0, None));
        let reads = stats.completed(OpKind::Read);
        assert_eq!(
            (reads.latency.count(), reads.bytes, reads.failures),
            (10_001, 10_000, 1)
        );
    }
}
