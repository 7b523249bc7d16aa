//! Rejects options that do not fit the store or the device.

use std::path::Path;
use std::time::Duration;

use rb_format::{Geometry, Superblock};
use rb_io::Engine;

use crate::error::OpenError;
use crate::io::superblocks::check_size;
use crate::open::cut;
use crate::options::{Placement, StoreOptions};

pub(crate) fn check_options(options: &StoreOptions) -> Result<(), OpenError> {
    let bad = |option, value: String, why| Err(OpenError::Option { option, value, why });
    if !(1..=4096).contains(&options.queue_depth) {
        return bad("queue_depth", options.queue_depth.to_string(), "1 to 4096");
    }
    if options.queues_max == 0 {
        return bad("queues_max", "0".into(), "at least 1");
    }
    if options
        .shards
        .is_some_and(|shards| !shards.is_power_of_two() || shards > 1024)
    {
        let value = format!("{:?}", options.shards);
        return bad("shards", value, "a power of two from 1 to 1024");
    }
    if let Some(scrub) = options.scrub
        && scrub.pass_interval < Duration::from_secs(1)
    {
        let value = format!("{:?}", scrub.pass_interval);
        return bad("scrub.pass_interval", value, "at least one second");
    }
    if options.start_empty && options.read_only {
        return bad("start_empty", "true".into(), "not together with read_only");
    }
    Ok(())
}

/// Rejects a store that requires features this version does not know, for the given access.
pub(crate) fn check_features(
    path: &Path,
    superblock: &Superblock,
    read_only: bool,
) -> Result<(), OpenError> {
    let checked = match read_only {
        true => superblock.features.check_read(),
        false => superblock.features.check_write(),
    };
    let path = path.to_path_buf();
    checked.map_err(|why| OpenError::Features { path, why })
}

/// Rejects placement ids that the device does not have. The type excludes 0, which means none.
pub(crate) fn check_placement(engine: &dyn Engine, placement: &Placement) -> Result<(), OpenError> {
    let max = engine
        .limits()
        .placements
        .map(|limit| (limit.value, limit.source));
    let metadata = placement.metadata.iter().map(|id| ("metadata".into(), id));
    let lifetimes = placement.lifetimes.iter().enumerate();
    let lifetimes = lifetimes.map(|(class, id)| (format!("lifetime class {class}"), id));
    for (what, id) in metadata.chain(lifetimes) {
        let id = id.0.get();
        if max.is_none_or(|(max, _)| id > max) {
            let engine = engine.name();
            return Err(OpenError::Placement {
                what,
                id,
                max,
                engine,
            });
        }
    }
    Ok(())
}

/// Compares the store with the properties that the caller relies on.
pub(crate) fn check_expected(
    path: &Path,
    superblock: &Superblock,
    geometry: &Geometry,
    options: &StoreOptions,
) -> Result<(), OpenError> {
    let differs = |field, found: String, expected: String| {
        Err(OpenError::Geometry {
            path: path.to_path_buf(),
            field,
            found,
            expected,
        })
    };
    let found: Vec<u64> = (0..=u8::MAX)
        .take(geometry.classes())
        .map(|class| geometry.class_capacity(class))
        .collect();
    let expected = &options.expected;
    if !expected.slot_bytes.is_empty() && expected.slot_bytes != found {
        return differs(
            "slot_bytes",
            format!("{found:?}"),
            format!("{:?}", expected.slot_bytes),
        );
    }
    if let Some(slots) = expected.slots
        && slots != u64::from(geometry.slots())
    {
        return differs(
            "the number of slots",
            geometry.slots().to_string(),
            slots.to_string(),
        );
    }
    let uuid = superblock.identity.uuid;
    if let Some(expected) = expected.uuid
        && expected != uuid
    {
        return differs("the UUID", uuid.to_string(), expected.to_string());
    }
    let label = superblock.label();
    if let Some(expected) = &expected.label
        && *expected != label
    {
        let shown = |label: &[u8]| format!("\"{}\"", label.escape_ascii());
        return differs("the label", shown(label), shown(expected));
    }
    Ok(())
}

/// Rejects a device smaller than the store. Reading only requires that all metadata but log ring 2
/// is there.
pub(crate) fn check_capacity(
    path: &Path,
    superblock: &Superblock,
    capacity: u64,
    to_look: bool,
) -> Result<(), OpenError> {
    match to_look && cut::holds_metadata(superblock, capacity) {
        true => Ok(()),
        false => check_size(path, superblock, capacity),
    }
}
