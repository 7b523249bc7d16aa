//! The device: requests by what they were for, and the queues.

use rb_io::Requests;

use crate::metrics::metric::{Metric, Sample, Unit, Value};
use crate::store::watch::Reading;

pub(super) static METRICS: [Metric; 17] = [
    Metric::durations(
        "raw_block_device_request_duration",
        &["kind", "op"],
        "Durations of requests of the device, by what they were for.",
        |now| requests(now, |completed| (&completed.latency).into()),
    ),
    Metric::counters(
        "raw_block_device",
        &["kind", "op"],
        "Bytes of requests of the device that succeeded.",
        |now| requests(now, |completed| completed.bytes.into()),
    )
    .unit(Unit::Bytes),
    Metric::counters(
        "raw_block_device_failures",
        &["kind", "op"],
        "Requests that the device failed.",
        |now| requests(now, |completed| completed.failures.into()),
    ),
    Metric::counter(
        "raw_block_read_errors",
        "Reads of values that the device failed.",
        |now| now.stats.read_errors.into(),
    ),
    Metric::gauge(
        "raw_block_device_requests_in_flight",
        "Requests in flight.",
        |now| now.stats.device.in_flight.into(),
    ),
    Metric::gauge(
        "raw_block_device_oldest_request_age",
        "Age of the oldest request in flight; 0 if there is none.",
        |now| now.stats.device.oldest.unwrap_or_default().into(),
    )
    .unit(Unit::Seconds),
    Metric::gauge(
        "raw_block_queue_depth",
        "Limit of requests in flight per queue.",
        |now| now.options().queue_depth.into(),
    ),
    Metric::gauge(
        "raw_block_queues_max",
        "Limit of queues that blocking calls share.",
        |now| now.options().queues_max.into(),
    ),
    Metric::gauge(
        "raw_block_queue_in_flight_max",
        "Highest number of parts in flight in one queue since opening.",
        |now| now.stats.queues.in_flight_max.into(),
    ),
    Metric::counter(
        "raw_block_queue_parts",
        "Parts of requests that queues accepted.",
        |now| now.stats.queues.parts.into(),
    ),
    Metric::counter(
        "raw_block_queue_registered_parts",
        "Parts that used a registered buffer.",
        |now| now.stats.queues.fixed_parts.into(),
    ),
    Metric::counter(
        "raw_block_queue_unregistered_parts",
        "Parts whose memory was not registered.",
        |now| now.stats.queues.unregistered_parts.into(),
    ),
    Metric::counter(
        "raw_block_queue_submissions",
        "Calls that started at least one part.",
        |now| now.stats.queues.submissions.into(),
    ),
    Metric::counter(
        "raw_block_queue_enters",
        "System calls of io_uring; 0 for other engines.",
        |now| now.stats.queues.enters.into(),
    ),
    Metric::counter(
        "raw_block_queue_wakes",
        "Wakes consumed by waiting calls.",
        |now| now.stats.queues.wakes.into(),
    ),
    Metric::counter(
        "raw_block_queue_waits",
        "Waits in the kernel for parts in flight.",
        |now| now.stats.queues.waits.into(),
    ),
    Metric::counter(
        "raw_block_queue_in_flight_at_waits",
        "Sum of the parts in flight at each of these waits.",
        |now| now.stats.queues.in_flight_at_waits.into(),
    ),
];

/// A sample for each purpose and operation of the device's requests.
fn requests<'a>(now: &'a Reading, value: impl Fn(&'a Requests) -> Value<'a>) -> Vec<Sample<'a>> {
    let mut samples = Vec::new();
    for (kind, requests) in now.stats.device.by_purpose() {
        for (op, completed) in requests.by_operation() {
            samples.push(Sample::new([kind.into(), op.into()], value(completed)));
        }
    }
    samples
}
