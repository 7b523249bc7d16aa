//! Opens a store whose engine skips the writes of most values, so that a store much larger than the space
//! under its sparse file can be filled, killed and opened again.
//!
//! A restart reads the metadata: superblocks, incarnation blocks, bases and log, which are written as
//! always. It needs one value, for the first get. So an engine over the real one completes the writes to
//! most slots without doing them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rb_core::{OpenError, Store, StoreOptions, superblock_copies};
use rb_format::Run;
use rb_io::{
    Access, Arena, ArenaError, Device, Engine, Feature, Limits, OpKind, Part, PartDone, Queue,
    QueueCounters, QueueOptions, Waker,
};

use crate::args::FillArgs;
use crate::failure::Failure;
use crate::open::open_quietly;

/// Opens the store for the processes that fill it. The device is claimed as [`Store::open`] claims
/// it, for as long as the engine lives.
pub(super) fn open(fill: &FillArgs, options: StoreOptions) -> Result<Store, Failure> {
    if fill.write_every == 1 {
        return open_quietly(&fill.store, options);
    }
    thin(&fill.store, fill.write_every, options).map_err(|source| Failure::Open {
        path: fill.store.clone(),
        source,
    })
}

fn thin(path: &Path, write_every: u64, options: StoreOptions) -> Result<Store, OpenError> {
    let device = Device::open(path, Access::ReadWrite)?;
    let engine = rb_io::open(device, options.engine)?.engine;
    let [a, b] = superblock_copies(engine.as_ref());
    // Without a usable copy the opening below fails with the reason.
    let skipped = SkippedSlots {
        run: a.or(b).ok().and_then(|found| found.runs.into_iter().next()),
        write_every,
    };
    Store::open(Arc::new(ThinEngine { engine, skipped }), options)
}

/// The slots that are not written: those of the store's only run whose number is not a multiple.
#[derive(Clone, Debug)]
struct SkippedSlots {
    run: Option<Run>,
    write_every: u64,
}

impl SkippedSlots {
    /// Returns whether a part is a valid write within one of these slots.
    fn has(&self, part: &Part) -> bool {
        let last = part.offset.saturating_add(u64::from(part.len.max(1)) - 1);
        let slot = self.slot_at(part.offset);
        part.op == OpKind::Write
            && slot.is_some_and(|slot| !slot.is_multiple_of(self.write_every))
            && slot == self.slot_at(last)
            && part.check().is_ok()
    }

    fn slot_at(&self, byte: u64) -> Option<u64> {
        let run = self.run.as_ref()?;
        let slot = byte.checked_sub(run.first_byte)?.checked_div(run.stride)?;
        (slot < run.count).then_some(slot)
    }
}

#[derive(Debug)]
struct ThinEngine {
    engine: Arc<dyn Engine>,
    skipped: SkippedSlots,
}

impl Engine for ThinEngine {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn limits(&self) -> &Limits {
        self.engine.limits()
    }

    fn capacity_bytes(&self) -> u64 {
        self.engine.capacity_bytes()
    }

    fn arena(&self, bytes: usize) -> Result<Arena, ArenaError> {
        self.engine.arena(bytes)
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, rb_io::OpenError> {
        Ok(Box::new(ThinQueue {
            queue: self.engine.queue(options)?,
            skipped: self.skipped.clone(),
            completed: Vec::new(),
        }))
    }
}

struct ThinQueue {
    queue: Box<dyn Queue>,
    skipped: SkippedSlots,
    /// Completions that were not reaped yet. At most the depth, which is a u32.
    completed: Vec<PartDone>,
}

impl Queue for ThinQueue {
    fn engine(&self) -> &'static str {
        self.queue.engine()
    }

    fn capacity_bytes(&self) -> u64 {
        self.queue.capacity_bytes()
    }

    fn depth(&self) -> u32 {
        self.queue.depth()
    }

    fn in_flight(&self) -> u32 {
        self.queue.in_flight() + self.completed.len() as u32
    }

    fn push(&mut self, part: Part) -> Result<(), Part> {
        if self.in_flight() >= self.depth() {
            return Err(part);
        }
        if !self.skipped.has(&part) {
            return self.queue.push(part);
        }
        self.completed.push(PartDone {
            token: part.token,
            buf: part.buf,
            result: Ok(part.len),
        });
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        self.queue.submit()
    }

    fn reap(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()> {
        // With nothing in flight in the real queue, it would wait for a wake.
        let at_least = match self.completed.len() as u32 {
            0 => at_least,
            completed => at_least
                .saturating_sub(completed)
                .min(self.queue.in_flight()),
        };
        done.append(&mut self.completed);
        self.queue.reap(at_least, timeout, done)
    }

    fn waker(&self) -> Waker {
        self.queue.waker()
    }

    fn counters(&self) -> QueueCounters {
        self.queue.counters()
    }

    fn report(&self) -> Vec<Feature> {
        self.queue.report()
    }
}
