//! [`Metric`]: one row of the table, and how its samples are written.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry;
use rb_io::Latency;

use crate::metrics::bounds;
use crate::store::watch::Reading;

/// A metric: its description, and where its samples come from.
pub(super) struct Metric {
    /// Name without the unit and without `_total`, which the client appends.
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    pub(super) unit: Unit,
    /// Names of the labels after `store`.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
    read: Read,
}

/// The unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// A count, or a flag of 0 or 1.
    None,
    Bytes,
    Seconds,
}

/// Reads the samples of a metric from the statistics of a store.
enum Read {
    /// 1 for an open store, 0 for a closed one.
    Open,
    One(fn(&Reading) -> Value<'_>),
    Each(fn(&Reading) -> Vec<Sample<'_>>),
}

/// A value of a metric, and the values of its labels after `store`.
pub(super) struct Sample<'a> {
    pub(super) labels: Vec<Cow<'static, str>>,
    value: Value<'a>,
}

/// A value of a metric.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Whole(u64),
    Real(f64),
    Durations(&'a Latency),
}

/// The names and values of the labels of a sample.
type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Metric {
    const fn new(name: &'static str, kind: MetricType, help: &'static str, read: Read) -> Metric {
        Metric {
            name,
            kind,
            unit: Unit::None,
            labels: &[],
            help,
            read,
        }
    }

    /// A gauge that is 1 for an open store and 0 for a closed one.
    pub(super) const fn open(name: &'static str, help: &'static str) -> Metric {
        Metric::new(name, MetricType::Gauge, help, Read::Open)
    }

    /// A number that only grows while the store is open.
    pub(super) const fn counter(
        name: &'static str,
        help: &'static str,
        read: fn(&Reading) -> Value<'_>,
    ) -> Metric {
        Metric::new(name, MetricType::Counter, help, Read::One(read))
    }

    /// Counters that differ in the labels.
    pub(super) const fn counters(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&Reading) -> Vec<Sample<'_>>,
    ) -> Metric {
        let metric = Metric::new(name, MetricType::Counter, help, Read::Each(read));
        Metric { labels, ..metric }
    }

    /// A number that rises and falls.
    pub(super) const fn gauge(
        name: &'static str,
        help: &'static str,
        read: fn(&Reading) -> Value<'_>,
    ) -> Metric {
        Metric::new(name, MetricType::Gauge, help, Read::One(read))
    }

    /// Gauges that differ in the labels.
    pub(super) const fn gauges(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&Reading) -> Vec<Sample<'_>>,
    ) -> Metric {
        let metric = Metric::new(name, MetricType::Gauge, help, Read::Each(read));
        Metric { labels, ..metric }
    }

    /// Histograms of durations that differ in the labels.
    pub(super) const fn durations(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: fn(&Reading) -> Vec<Sample<'_>>,
    ) -> Metric {
        let metric = Metric::new(name, MetricType::Histogram, help, Read::Each(read));
        Metric { labels, ..metric }.unit(Unit::Seconds)
    }

    pub(super) const fn unit(self, unit: Unit) -> Metric {
        Metric { unit, ..self }
    }

    /// Writes the metric of all stores as one family.
    pub(super) fn encode(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        readings: &[(String, Option<Reading>)],
    ) -> fmt::Result {
        let unit = self.unit.of_client();
        let mut family =
            encoder.encode_descriptor(self.name, self.help, unit.as_ref(), self.kind)?;
        for (store, reading) in readings {
            for sample in self.samples(reading.as_ref()) {
                let values = sample.labels.iter().map(|value| &**value);
                let labels = self.labels.iter().copied().zip(values);
                let labels: Labels = [("store", store.as_str())]
                    .into_iter()
                    .chain(labels)
                    .collect();
                self.encode_value(family.encode_family(&labels)?, sample.value)?;
            }
        }
        Ok(())
    }

    fn encode_value(&self, mut encoder: MetricEncoder<'_>, value: Value<'_>) -> fmt::Result {
        let counts = self.kind == MetricType::Counter;
        match value {
            Value::Whole(number) if counts => {
                encoder.encode_counter(&number, None::<&Exemplar<NoLabelSet, u64>>)
            }
            Value::Real(number) if counts => {
                encoder.encode_counter(&number, None::<&Exemplar<NoLabelSet, f64>>)
            }
            Value::Whole(number) => encoder.encode_gauge(&number),
            Value::Real(number) => encoder.encode_gauge(&number),
            Value::Durations(latency) => {
                let buckets = bounds::buckets(latency);
                let count = buckets.iter().map(|(_, count)| count).sum();
                let seconds = latency.total().as_secs_f64();
                encoder.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
            }
        }
    }

    /// Reads the samples of a store; of a closed one there is at most the fact that it is closed.
    pub(super) fn samples<'a>(&self, reading: Option<&'a Reading>) -> Vec<Sample<'a>> {
        match (&self.read, reading) {
            (Read::Open, reading) => vec![Sample::new([], reading.is_some())],
            (Read::One(read), Some(reading)) => vec![Sample::new([], read(reading))],
            (Read::Each(read), Some(reading)) => read(reading),
            (Read::One(_) | Read::Each(_), None) => Vec::new(),
        }
    }
}

impl Unit {
    fn of_client(self) -> Option<registry::Unit> {
        match self {
            Unit::None => None,
            Unit::Bytes => Some(registry::Unit::Bytes),
            Unit::Seconds => Some(registry::Unit::Seconds),
        }
    }
}

impl<'a> Sample<'a> {
    pub(super) fn new<const N: usize>(
        labels: [Cow<'static, str>; N],
        value: impl Into<Value<'a>>,
    ) -> Sample<'a> {
        Sample {
            labels: labels.into(),
            value: value.into(),
        }
    }
}

/// Samples that differ in one label with fixed values.
pub(super) fn by<'a, V: Into<Value<'a>>, const N: usize>(
    values: [(&'static str, V); N],
) -> Vec<Sample<'a>> {
    let sample = |(label, value): (&'static str, V)| Sample::new([label.into()], value);
    values.into_iter().map(sample).collect()
}

impl From<u64> for Value<'_> {
    fn from(number: u64) -> Self {
        Value::Whole(number)
    }
}

impl From<u32> for Value<'_> {
    fn from(number: u32) -> Self {
        Value::Whole(number.into())
    }
}

impl From<f64> for Value<'_> {
    fn from(number: f64) -> Self {
        Value::Real(number)
    }
}

impl From<usize> for Value<'_> {
    fn from(number: usize) -> Self {
        Value::Whole(number as u64)
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Value::Whole(flag.into())
    }
}

impl From<Duration> for Value<'_> {
    fn from(time: Duration) -> Self {
        Value::Real(time.as_secs_f64())
    }
}

impl<'a> From<&'a Latency> for Value<'a> {
    fn from(latency: &'a Latency) -> Self {
        Value::Durations(latency)
    }
}
