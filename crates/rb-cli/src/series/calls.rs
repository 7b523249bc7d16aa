//! Calls of the two kinds: their latencies, values and bytes.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency in nanoseconds: an hour. A longer one counts as this one.
const LATENCY_MAX: u64 = 3_600_000_000_000;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads values.
    Get,
    /// Writes values.
    Put,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub(crate) const ALL: [Kind; 2] = [Kind::Get, Kind::Put];

    /// The kind's name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Put => "put",
        }
    }
}

/// Calls of one kind.
#[derive(Clone)]
pub(super) struct Calls {
    /// In nanoseconds.
    pub(super) latencies: Histogram<u64>,
    pub(super) max: Duration,
    pub(super) values: u64,
    pub(super) bytes: u64,
}

/// Calls of all kinds, by the number of the kind.
pub(super) type Kinds = [Calls; 2];

impl Calls {
    pub(super) fn new(digits: u8) -> Calls {
        let latencies = Histogram::new(digits);
        Calls {
            latencies: latencies.unwrap_or_else(|why| unreachable!("{digits} digits: {why}")),
            max: Duration::ZERO,
            values: 0,
            bytes: 0,
        }
    }

    pub(super) fn kinds(digits: u8) -> Kinds {
        [Calls::new(digits), Calls::new(digits)]
    }

    pub(super) fn record(&mut self, latency: Duration, values: u64, bytes: u64) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        // The histogram grows up to the limit, which its range includes.
        let _ = self.latencies.record(nanos.min(LATENCY_MAX));
        self.max = self.max.max(latency);
        self.values += values;
        self.bytes += bytes;
    }

    pub(super) fn add(&mut self, other: &Calls) {
        // The histogram grows as far as the other one.
        let _ = self.latencies.add(&other.latencies);
        self.max = self.max.max(other.max);
        self.values += other.values;
        self.bytes += other.bytes;
    }

    pub(super) fn clear(&mut self) {
        self.latencies.reset();
        (self.max, self.values, self.bytes) = (Duration::ZERO, 0, 0);
    }

    /// Returns the percentile in microseconds; `None` without calls.
    pub(super) fn us(&self, quantile: f64) -> Option<f64> {
        let nanos = self.latencies.value_at_quantile(quantile);
        // A bucket of the histogram may end above the longest latency in it.
        (!self.latencies.is_empty()).then(|| (nanos as f64 / 1e3).min(self.max_us()))
    }

    pub(super) fn max_us(&self) -> f64 {
        self.max.as_secs_f64() * 1e6
    }
}

/// Adds the calls of each kind.
pub(super) fn add(to: &mut Kinds, from: &Kinds) {
    to.iter_mut().zip(from).for_each(|(to, from)| to.add(from));
}
