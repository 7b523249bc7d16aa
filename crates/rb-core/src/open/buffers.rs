//! Allocates a store's buffer memory and the lanes that use it.

use std::sync::Arc;

use rb_format::Geometry;
use rb_io::{Arena, Engine};

use crate::background::checkpoint::Checkpointer;
use crate::core::direct::Direct;
use crate::core::pieces::buffer_bytes;
use crate::core::writer::Writer;
use crate::error::OpenError;
use crate::io::lanes::Lanes;
use crate::io::requests::{ByPurpose, Purpose};
use crate::memory;
use crate::options::StoreOptions;

/// Default buffer memory of a store.
const BUFFERS_DEFAULT: usize = 64 << 20;

/// Creates the arena, lanes that may use it and the caller's arenas, and the state of direct I/O.
pub(crate) fn buffers(
    engine: &Arc<dyn Engine>,
    options: &StoreOptions,
    geometry: &Geometry,
) -> Result<(Arena, Lanes, Direct), OpenError> {
    let largest = buffer_bytes(geometry.largest_value() as usize, 1);
    let bytes = options
        .buffer_bytes
        .unwrap_or(BUFFERS_DEFAULT.max(2 * largest));
    if bytes < 2 * largest {
        let why = "at least two slots of the largest class with their headers";
        return Err(OpenError::Option {
            option: "buffer_bytes",
            value: bytes.to_string(),
            why,
        });
    }
    memory::check("buffer memory", bytes as u64).map_err(|source| OpenError::Io {
        what: "option buffer_bytes",
        source,
    })?;
    let arena = engine.arena(bytes).map_err(|why| OpenError::Resource {
        what: "buffer memory",
        why: why.to_string(),
    })?;
    let mut arenas = vec![arena.clone()];
    arenas.extend(options.arenas.iter().cloned());
    let (depth, max) = (options.queue_depth, options.queues_max);
    let requests = ByPurpose::new(options.timed);
    let lanes = Lanes::new(Arc::clone(engine), arenas, depth, max, requests);
    let direct = Direct::new(engine.limits().memory_align.value, options.direct_min);
    Ok((arena, lanes, direct))
}

/// Counts the requests of commits and checkpoints with those of the lanes.
pub(crate) fn count_writes(
    lanes: &Lanes,
    writer: Option<&mut Writer>,
    checkpointer: Option<&mut Checkpointer>,
) {
    if let Some(writer) = writer {
        let io = &mut writer.committer.get_mut().io;
        io.count_in(&lanes.requests, Purpose::Log);
    }
    if let Some(checkpointer) = checkpointer {
        checkpointer.io().count_in(&lanes.requests, Purpose::Base);
    }
}
