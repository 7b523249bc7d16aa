//! Opens a store.
//!
//! ```text
//! 1 check the options
//! 2 read and choose the superblock
//! 3 recover; for writing, take the store over from its former writer
//! 4 allocate buffers and queues
//! 5 start the services
//! 6 do what must precede the first operation
//! ```

pub(crate) mod apply;
pub(crate) mod base_load;
pub(crate) mod begin;
pub(crate) mod block_size;
pub(crate) mod buffers;
pub(crate) mod checks;
pub(crate) mod crew;
pub(crate) mod cut;
pub(crate) mod format_device;
pub(crate) mod open_plan;
pub(crate) mod opened;
pub(crate) mod recover;
pub(crate) mod recover_options;
pub(crate) mod recovered;
pub(crate) mod replay;
pub(crate) mod retest;
pub(crate) mod scan;
pub(crate) mod services;
pub(crate) mod sessions;
pub(crate) mod space;
pub(crate) mod start_empty;
pub(crate) mod take_over;
pub(crate) mod unfinished;

use std::sync::Arc;
use std::time::Instant;

use rb_format::Geometry;

use crate::background::Services;
use crate::core::inner::Inner;
use crate::error::OpenError;
use crate::io::meta_io::{BOOT_ARENA, MetaIo};
use crate::io::superblocks::{choose_superblock, read_copies};
use crate::options::{StoreOptions, Validate};
use begin::Begun;
use open_plan::OpenPlan;
use opened::Opened;

/// Opens a store over an engine.
pub(crate) fn open(source: Opened, options: StoreOptions) -> Result<(Inner, Services), OpenError> {
    let (start, span) = (Instant::now(), source.span());
    let (engine, path) = (&source.engine, &source.path);
    let kind = source.device.as_ref().map(|device| device.kind());
    checks::check_options(&options)?; // 1
    checks::check_placement(engine.as_ref(), &options.placement)?;
    let believed = match options.read_only {
        true => None,
        // Before the first read: see docs/durability.md.
        false => source.distrust_cache()?,
    };

    let mut io = MetaIo::of_store(engine.as_ref(), BOOT_ARENA, options.queue_depth, &options)?; // 2
    let capacity = engine.capacity_bytes();
    let copies = read_copies(&mut io, capacity);
    let mut found = choose_superblock(&mut io, &copies, path, capacity)?;
    checks::check_features(path, &found.newest, options.read_only)?;
    // Size first: the end of a truncated device lies in the middle of the layout.
    checks::check_capacity(path, &found.newest, capacity, options.read_only)?;
    let geometry = Geometry::new(&found.newest);
    checks::check_expected(path, &found.newest, &geometry, &options)?;

    let device = source.device.as_deref();
    let mut opening = OpenPlan::new(path, device, capacity, &copies, &geometry, &options)?;
    let keeping = opening.how.keep(&mut io, &found.newest, &options);
    let Begun {
        mut recovered,
        writing,
        refused,
    } = span.during(|| match options.read_only {
        true => Ok(Begun::reading(opening.look(&mut io, &mut found)?)),
        false => Begun::writing(engine.as_ref(), &mut io, &opening, &mut found), // 3
    })?;
    let (mut writer, mut checkpointer) = writing.unzip();
    drop(copies);

    let (arena, lanes, direct) = buffers::buffers(engine, &options, &geometry)?; // 4
    buffers::count_writes(&lanes, writer.as_mut(), checkpointer.as_mut());
    recovered.report.cut_to = source.cut_to.or(recovered.report.cut_to);
    recovered.report.page_cache = believed;
    recovered.report.total_time = start.elapsed();
    // An eviction must not become durable before the observer is notified of it.
    if options.events.is_some() {
        recovered.index.keep_evicted();
    }
    let mut inner = Inner {
        path: source.path,
        device: Opened::hold(source.engine, source.reservation),
        rejected: source.rejected,
        identity: found.newest.identity,
        superblock: found.newest,
        geometry,
        options,
        index: recovered.index,
        arena,
        lanes: Arc::new(lanes),
        gate: Arc::default(),
        poison: Default::default(),
        flushing: Default::default(),
        counters: Default::default(),
        direct,
        recovery: recovered.report,
        keeping,
        writer,
    };
    let services = services::services(&inner, checkpointer, kind)?; // 5

    if inner.options.validate == Validate::Eager {
        services::validate_all(&mut inner, &services)?; // 6
    }
    if let (Some(writer), Some(checkpointer)) = (&inner.writer, &services.checkpointer) {
        inner.notify_failed(writer, refused);
        if recovered.newest.is_none() {
            // Metadata was lost: write a base of what was found before anything else changes.
            let written = checkpointer.run(&inner, writer);
            written.map_err(OpenError::Writer)?;
        }
    }
    Ok((inner, services))
}
