//! Work in the background: validation, scrubbing, discards.

use crate::metrics::metric::{Metric, Unit, by};

pub(super) static METRICS: [Metric; 10] = [
    Metric::counter(
        "raw_block_validated_entries",
        "Entries that the validator checked.",
        |now| now.stats.validated.into(),
    ),
    Metric::counter(
        "raw_block_scrub_entries",
        "Entries that the scrubber verified or dropped.",
        |now| now.stats.scrub.entries.into(),
    ),
    Metric::counter(
        "raw_block_scrub",
        "Bytes that the scrubber read from the device.",
        |now| now.stats.scrub.bytes.into(),
    )
    .unit(Unit::Bytes),
    Metric::counter(
        "raw_block_scrub_errors",
        "Reads of the scrubber that the device failed, and steps in which it did not respond.",
        |now| now.stats.scrub.errors.into(),
    ),
    Metric::counter(
        "raw_block_scrub_passes",
        "Passes of the scrubber over all entries.",
        |now| now.stats.scrub.passes.into(),
    ),
    Metric::counter(
        "raw_block_discarded_slots",
        "Freed slots whose discard has ended.",
        |now| now.stats.discard.slots.into(),
    ),
    Metric::counter(
        "raw_block_discarded",
        "Bytes in the discards sent to the device.",
        |now| now.stats.discard.bytes.into(),
    )
    .unit(Unit::Bytes),
    Metric::counter(
        "raw_block_discard_failures",
        "Discards that the device failed.",
        |now| now.stats.discard.failures.into(),
    ),
    Metric::gauge(
        "raw_block_discard_off",
        "1 if freed slots are not discarded, or not any more, although the option is set.",
        |now| now.stats.discard.off.is_some().into(),
    ),
    Metric::counters(
        "raw_block_internal_errors",
        &["reason"],
        "Refused steps of the index or of its eviction policy; not 0 means a bug.",
        |now| {
            let index = &now.stats.index;
            by([
                ("refused_victim", index.refused_victims),
                ("illegal_transition", index.illegal_transitions),
                ("free_list_rejection", index.free_list_rejections),
            ])
        },
    ),
];
