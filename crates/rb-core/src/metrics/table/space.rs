//! Space: entries, slots by class and state, capacity.

use rb_index::ClassStats;

use crate::metrics::metric::{Metric, Sample, Unit, Value};
use crate::store::watch::Reading;

pub(super) static METRICS: [Metric; 7] = [
    Metric::gauge("raw_block_entries", "Live entries.", |now| {
        now.stats.index.entries.into()
    }),
    Metric::counter("raw_block_evictions", "Entries evicted.", |now| {
        now.stats.index.evictions.into()
    }),
    Metric::gauges(
        "raw_block_slots",
        &["class", "state"],
        "Slots by class and state.",
        slots,
    ),
    Metric::gauges(
        "raw_block_slot",
        &["class"],
        "Payload that one slot of the class holds.",
        |now| by_class(now, |class, _| now.geometry().class_capacity(class).into()),
    )
    .unit(Unit::Bytes),
    Metric::gauges(
        "raw_block_capacity",
        &["class"],
        "Payload that all slots of the class hold, in any state.",
        |now| {
            by_class(now, |class, slots| {
                let slot_bytes = now.geometry().class_capacity(class);
                slots.capacity.saturating_mul(slot_bytes).into()
            })
        },
    )
    .unit(Unit::Bytes),
    Metric::gauge(
        "raw_block_layout",
        "Size of the part of the device that the store uses.",
        |now| now.superblock().device_bytes.into(),
    )
    .unit(Unit::Bytes),
    Metric::counters(
        "raw_block_slots_taken_early",
        &["class"],
        "Slots taken before the change that freed them was durable.",
        |now| by_class(now, |_, slots| slots.taken_early.into()),
    ),
];

/// A sample for each class, in the order of class numbers.
fn by_class<'a>(now: &'a Reading, value: impl Fn(u8, &ClassStats) -> Value<'a>) -> Vec<Sample<'a>> {
    let classes = (0..).zip(&now.stats.index.classes);
    let sample = |(class, slots): (u8, &ClassStats)| {
        Sample::new([class.to_string().into()], value(class, slots))
    };
    classes.map(sample).collect()
}

fn slots(now: &Reading) -> Vec<Sample<'_>> {
    let mut samples = Vec::new();
    for (class, slots) in now.stats.index.classes.iter().enumerate() {
        let states = [
            ("free", slots.free),
            ("reserved", slots.reserved),
            ("live", slots.live),
            ("retired", slots.retired),
            ("quarantined", slots.quarantined),
            ("bad", slots.bad),
            ("discarding", slots.discarding),
        ];
        for (state, count) in states {
            let labels = [class.to_string().into(), state.into()];
            samples.push(Sample::new(labels, count));
        }
    }
    samples
}
