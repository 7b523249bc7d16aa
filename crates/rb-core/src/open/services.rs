//! Creates the background services of an open store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rb_io::DeviceKind;

use crate::background::Services;
use crate::background::checkpoint::Checkpointer;
use crate::background::discard::{self, Discards};
use crate::background::monitor::Monitor;
use crate::background::scrub::Scrubber;
use crate::background::validate::Validator;
use crate::core::inner::Inner;
use crate::error::OpenError;
use crate::io::meta_io::MetaIo;
use crate::io::requests::Purpose;
use crate::options::Validate;
use crate::trace;

/// Buffer bytes for validation: as many headers as the queue is deep.
const VALIDATION_ARENA: usize = 4 << 20;

/// Creates the services that the options request.
pub(crate) fn services(
    inner: &Inner,
    checkpointer: Option<Checkpointer>,
    kind: Option<DeviceKind>,
) -> Result<Services, OpenError> {
    let options = &inner.options;
    let engine = inner.device.engine().map_err(OpenError::Writer)?;
    let discards = match &inner.writer {
        Some(writer) if options.discard_freed => {
            let by = engine.discards();
            let by = by.unwrap_or_else(|| Arc::clone(&engine));
            let mut io = MetaIo::of_store(by.as_ref(), discard::ARENA, discard::DEPTH, options)?;
            io.count_in(&inner.lanes.requests, Purpose::Upkeep);
            Some(Discards::new(by.limits(), inner, writer, io))
        }
        _ => None,
    };
    // A properly closed store was consistent; its entries are verified by their first read.
    let validates = match options.validate {
        Validate::Off => false,
        Validate::Eager => true,
        Validate::Background => !inner.recovery.clean && !options.read_only,
    };
    let validator = match validates {
        true => {
            let mut io = MetaIo::of_store(
                engine.as_ref(),
                VALIDATION_ARENA,
                options.queue_depth,
                options,
            )?;
            io.count_in(&inner.lanes.requests, Purpose::Upkeep);
            Validator::new(io)
        }
        false => Validator::off(),
    };
    let scrubber = options
        .scrub
        .map(|scrub| Scrubber::new(scrub, options.clock.now()));
    Ok(Services {
        checkpointer,
        validator,
        scrubber,
        discards,
        monitor: Monitor::of_store(inner, kind),
        stop: Arc::default(),
    })
}

/// Validates every entry before the open returns, and reports it.
pub(crate) fn validate_all(inner: &mut Inner, services: &Services) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io {
        what: "validating slot headers",
        source,
    };
    let start = Instant::now();
    let _stage = trace::stage("validation");
    services.validator.run(inner).map_err(failed)?;
    inner.recovery.validated = inner.counters.validated.load(Ordering::Relaxed);
    inner.recovery.validation_time = start.elapsed();
    inner.recovery.total_time += start.elapsed();
    Ok(())
}
