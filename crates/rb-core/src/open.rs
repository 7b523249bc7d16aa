//! Opening a store: engine, superblock, recovery, incarnation, then serve.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rb_format::{Geometry, LogEncoder, Superblock};
use rb_index::Index;
use rb_io::{Access, Arena, Device, Engine, EngineKind, Rejected, Reservation};

use crate::boot::{
    Superblocks, check_numbers, check_size, choose_superblock, read_copies, repair_superblocks,
};
use crate::checkpoint::Checkpointer;
use crate::clock::Random;
use crate::commit::{Aftermath, Committer};
use crate::cut;
use crate::discard::{self, Discards};
use crate::error::{Error, OpenError};
use crate::gate::Gate;
use crate::incarnations::Opened;
use crate::inner::{Inner, Writer};
use crate::lanes::Lanes;
use crate::log::DeltaLog;
use crate::mend::mend;
use crate::meta_io::MetaIo;
use crate::options::{Placement, StoreOptions, Validate};
use crate::quarantine::Quarantine;
use crate::recover::Recovered;
use crate::scrub::Scrubber;
use crate::take_over::{Opening, Taken};
use crate::unwritable::{FailedWrite, Unwritable};
use crate::validate::Validator;
use crate::value::ValueBuf;
use crate::walk::Walk;

/// Buffers for recovery: log windows and sections read ahead.
pub(crate) const BOOT_ARENA: usize = 64 << 20;
/// Buffers for a commit: a full one, its incarnation blocks, and slack for splitting at the ring's end.
const COMMIT_ARENA: usize = 8 << 20;
/// Buffers for a checkpoint: the largest section, and the directory.
const CHECKPOINT_ARENA: usize = 64 << 20;
/// Buffer memory of a store by default.
const BUFFERS_DEFAULT: usize = 64 << 20;

/// What an engine was opened over.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) rejected: Vec<Rejected>,
    /// The size of a file that was cut and has just been grown again.
    pub(crate) cut_to: Option<u64>,
    /// None behind a simulated device's engine.
    pub(crate) device: Option<Arc<Device>>,
    pub(crate) reservation: Option<Reservation>,
}

impl Source {
    /// A device that is held.
    pub(crate) fn of_device(
        path: &Path,
        device: Arc<Device>,
        engine: EngineKind,
    ) -> Result<Source, OpenError> {
        let opened = rb_io::open(Arc::clone(&device), engine)?;
        Ok(Source {
            path: path.to_path_buf(),
            engine: opened.engine,
            rejected: opened.rejected,
            cut_to: None,
            device: Some(device),
            reservation: None,
        })
    }

    /// What a simulated device's engine reaches.
    pub(crate) fn of_engine(engine: Arc<dyn Engine>) -> Source {
        Source {
            path: PathBuf::from(engine.name()),
            engine,
            rejected: Vec::new(),
            cut_to: None,
            device: None,
            reservation: None,
        }
    }
}

/// Opens the device at `path`, and grows a file that was cut if it is opened for writing.
pub(crate) fn open_path(
    path: &Path,
    access: Access,
    engine: EngineKind,
) -> Result<Source, OpenError> {
    let mut device = Arc::new(Device::open(path, access)?);
    let mut cut_to = None;
    if access == Access::ReadWrite {
        cut_to = cut::grow_again(path, &device)?;
        if cut_to.is_some() {
            // It was judged and grown while it was held. Whatever happens now, the opening judges it again.
            drop(device);
            device = Arc::new(Device::open(path, access)?);
        }
    }
    let source = Source::of_device(path, device, engine)?;
    Ok(Source { cut_to, ..source })
}

impl Source {
    /// Reserves the device for this host.
    ///
    /// # Errors
    /// It cannot be reserved, or there are no random bytes for a key.
    pub(crate) fn reserve(&mut self, random: &dyn Random) -> Result<(), OpenError> {
        let Some(device) = self.device.clone() else {
            return Err(OpenError::Option {
                option: "exclusive",
                value: "Reserve".into(),
                why: "Lock, for what is no device",
            });
        };
        let mut key = [0; 8];
        random.fill(&mut key).map_err(|why| OpenError::Resource {
            what: "random bytes",
            why: why.to_string(),
        })?;
        // 0 stands for no key.
        let key = u64::from_le_bytes(key).max(1);
        self.reservation = Some(Reservation::new(device, key)?);
        Ok(())
    }
}

/// Opens a store over an engine.
pub(crate) fn open(source: Source, options: StoreOptions) -> Result<Inner, OpenError> {
    let start = Instant::now();
    check_options(&options)?;
    let Source {
        path,
        engine,
        rejected,
        cut_to,
        device: _,
        reservation,
    } = source;
    check_placement(engine.as_ref(), &options.placement)?;
    let meta_on = |engine: &dyn Engine, arena, depth| {
        MetaIo::new(engine, arena, depth, options.io_deadline)
            .map(|io| io.placed(options.placement.metadata))
            .map_err(|source| OpenError::Io {
                what: "opening a queue",
                source,
            })
    };
    let meta = |arena, depth| meta_on(engine.as_ref(), arena, depth);
    let mut io = meta(BOOT_ARENA, options.queue_depth)?;
    let capacity = engine.capacity_bytes();
    let copies = read_copies(&mut io, capacity);
    let mut found = choose_superblock(&mut io, &copies, &path, capacity)?;
    check_features(&path, &found.newest, options.read_only)?;
    // By its size first: the end of a device that was cut is in the middle of the layout.
    if !options.read_only || !cut::holds_metadata(&found.newest, capacity) {
        check_size(&path, &found.newest, capacity)?;
    }
    let geometry = Geometry::new(&found.newest);
    check_geometry(&path, &geometry, &options)?;
    let shards = options
        .shards
        .unwrap_or_else(|| Index::default_shards(u64::from(geometry.slots())));

    let opening = Opening {
        path: &path,
        capacity,
        copies: &copies,
        geometry: &geometry,
        shards,
        options: &options,
    };
    let (recovered, mut writer, refused) = match options.read_only {
        true => (opening.look(&mut io, &mut found)?, None, Vec::new()),
        false => {
            let Taken {
                mut recovered,
                incarnation,
                mut refused,
            } = opening.take_over(&mut io, &mut found)?;
            let committer = Committer::new(meta(COMMIT_ARENA, 64)?, options.clock.now());
            let checkpoint_io = meta(CHECKPOINT_ARENA, 16)?;
            let writer = begin_writing(
                &mut io,
                &found,
                &mut recovered,
                incarnation,
                &mut refused,
                committer,
                checkpoint_io,
            )?;
            (recovered, Some(writer), refused)
        }
    };
    drop(copies);
    let superblock = found.newest.clone();
    let arena = buffers(engine.as_ref(), &options, &geometry)?;
    let mut arenas = vec![arena.clone()];
    arenas.extend(options.arenas.iter().cloned());
    let lanes = Lanes::new(
        Arc::clone(&engine),
        arenas,
        options.queue_depth,
        options.queues_max,
    );
    let Recovered {
        mut index,
        mut report,
        newest,
        ..
    } = recovered;
    report.cut_to = cut_to.or(report.cut_to);
    if options.events.is_some() {
        index.keep_evicted();
    }
    if let (Some(writer), true) = (&mut writer, options.discard_freed) {
        let by = engine.discards().unwrap_or_else(|| Arc::clone(&engine));
        let io = meta_on(by.as_ref(), discard::ARENA, discard::DEPTH)?;
        let discards = Discards::new(by.limits(), &geometry, &index, io);
        writer.discards = Some(discards);
    }
    // A properly closed store was consistent; its entries are proven by their first read.
    let validates = match options.validate {
        Validate::Off => false,
        Validate::Eager => true,
        Validate::Background => !report.clean && !options.read_only,
    };
    let validator = Validator {
        place: validates.then(Walk::default),
        io: if validates {
            Some(meta(4 << 20, options.queue_depth)?)
        } else {
            None
        },
    };
    let scrubber = options
        .scrub
        .map(|scrub| Mutex::new(Scrubber::new(scrub, options.clock.now())));
    report.total_time = start.elapsed();
    let eager = options.validate == Validate::Eager;
    let mut inner = Inner {
        path,
        engine,
        rejected,
        reservation,
        identity: superblock.identity,
        superblock,
        geometry,
        options,
        index,
        arena,
        lanes: Arc::new(lanes),
        driver: crate::driver::Driver::default(),
        gate: Arc::new(Gate::default()),
        poison: crate::poison::Poison::default(),
        flushing: Mutex::default(),
        counters: crate::stats::Counters::default(),
        validator: Mutex::new(validator),
        scrubber,
        recovery: report,
        writer,
    };
    if eager {
        let failed = |source| OpenError::Io {
            what: "validating slot headers",
            source,
        };
        let validation = Instant::now();
        while inner.validate_some(4096).map_err(failed)? {}
        inner.recovery.validated = inner.counters.validated.load(Ordering::Relaxed);
        inner.recovery.validation_time = validation.elapsed();
        inner.recovery.total_time = start.elapsed();
    }
    if let Some(writer) = &inner.writer {
        let refused = inner.count_failed(writer, refused);
        Aftermath::of_failed(refused).tell(&inner);
    }
    if let (Some(writer), None) = (&inner.writer, &newest) {
        // Metadata was lost: what was found is written down before anything else changes.
        inner.checkpoint(writer).map_err(OpenError::Writer)?;
    }
    Ok(inner)
}

fn check_options(options: &StoreOptions) -> Result<(), OpenError> {
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

/// Refuses a store that uses what this program does not know, as far as that says.
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

/// Refuses ids that the device does not have; 0 is none by its type.
fn check_placement(engine: &dyn Engine, placement: &Placement) -> Result<(), OpenError> {
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

fn check_geometry(
    path: &Path,
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
    let found: Vec<u64> = (0..geometry.classes())
        .map(|class| geometry.class_capacity(u8::try_from(class).unwrap_or(u8::MAX)))
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
    Ok(())
}

fn buffers(
    engine: &dyn Engine,
    options: &StoreOptions,
    geometry: &Geometry,
) -> Result<Arena, OpenError> {
    let largest = ValueBuf::stride(geometry.largest_value() as usize);
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
    engine.arena(bytes).map_err(|why| OpenError::Resource {
        what: "buffer memory",
        why: why.to_string(),
    })
}

/// The first writes of an opening, once the store is its own.
fn begin_writing(
    io: &mut MetaIo,
    found: &Superblocks,
    recovered: &mut Recovered,
    incarnation: Opened,
    refused: &mut Vec<FailedWrite>,
    committer: Committer,
    checkpoint_io: MetaIo,
) -> Result<Writer, OpenError> {
    let superblock: &Superblock = &found.newest;
    let failed = |what| move |source: Error| OpenError::Io { what, source };
    check_numbers(&[
        ("log sequence", recovered.end.sequence),
        ("base sequence", recovered.base_sequence),
    ])?;
    let failed_repair = failed("repairing the superblock");
    let (repaired, unwritten) = repair_superblocks(io, found).map_err(&failed_repair)?;
    if repaired {
        io.flush().map_err(&failed_repair)?;
    }
    recovered.report.superblock_repaired |= repaired;
    refused.extend(unwritten);
    // The first block of this opening names all before it as durable.
    let mended = mend(io, superblock, &recovered.copies, &recovered.header_copies)
        .map_err(failed("writing again what was in one place only"))?;
    recovered.report.copies_rewritten = mended.rewritten;
    recovered.report.copies_unwritten = mended.failed + refused.len() as u64;
    let encoder = LogEncoder::new(superblock.identity, incarnation.number(), recovered.end);
    let newest = recovered
        .newest
        .as_ref()
        .map_or(recovered.end.sequence, |base| base.position);
    let rings = superblock.log_rings().map(rb_format::Region::clone);
    let log = DeltaLog::new(rings, encoder, recovered.tail, newest);
    let checkpointer = Checkpointer {
        io: checkpoint_io,
        newest: recovered.newest.clone(),
        last_sequence: recovered.base_sequence,
    };
    let mut unwritable = Unwritable::new(std::mem::take(&mut recovered.bad_blocks));
    for refused in &*refused {
        // If a base header remembers no more, the next opening finds it out again.
        let _ = unwritable.add_bad(refused.offset);
    }
    Ok(Writer {
        incarnation,
        counter: AtomicU64::new(0),
        log: Arc::new(log),
        unwritable: Mutex::new(unwritable),
        committer: Mutex::new(committer),
        checkpointer: Mutex::new(checkpointer),
        quarantine: Mutex::new(Quarantine::new(std::mem::take(&mut recovered.bad_slots))),
        discards: None,
    })
}
