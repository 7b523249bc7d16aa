//! Opens or makes the store under measurement, and makes its values.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{Seek, Write};
use std::num::NonZeroU64;
use std::path::Path;

use rb_core::{
    ClassRequest, EngineKind, FormatOptions, Geometry, Payload, Put, PutOptions, Share, Store,
    StoreOptions, StoreUuid,
};
use rb_format::{Identity, LayoutRequest, plan};

use super::value;
use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::format::make;
use crate::open::{Agreed, close, look_before_writing, open, open_quietly, writing};
use crate::output::Output;
use crate::progress;
use crate::size::{counted, show_size};

/// Default size of a file that is made.
const FILE_BYTES: u64 = 2 << 30;
/// Bytes of each write to a new file.
const PIECE: usize = 8 << 20;
/// Bytes of values in one call outside the measurement.
pub(super) const CALL_BYTES: usize = 16 << 20;
/// Keys removed in one call.
const REMOVED_AT_ONCE: usize = 1024;
const KEY_LEN_MAX: u32 = 64;
const KEY_START: &str = "rb-bench/";

/// An open store and the keys of a run.
pub(super) struct Prepared {
    pub(super) store: Store,
    pub(super) keys: Vec<Box<[u8]>>,
    pub(super) value_bytes: usize,
}

/// Opens the store. Makes it if there is none.
pub(super) fn prepare(
    args: &BenchArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Prepared, Failure> {
    let is_new = args.fresh || !is_made_for(args)?;
    if is_new {
        check_new(args)?;
        format_whole(args, engine)?;
    }
    if !is_new {
        let agreed = Agreed {
            accept_lost_metadata: false,
            force: false,
        };
        look_before_writing(&args.store, engine, agreed, output)?;
    }
    let count = look(args, engine, is_new)?;
    let value_bytes = usize::try_from(args.value_bytes).unwrap_or(usize::MAX);
    let in_flight = in_flight(args);
    // Twice what is in flight, so that the next values can be made concurrently.
    let buffers = 2 * in_flight * (value_bytes.next_multiple_of(4096) + 4096);
    let options = StoreOptions {
        engine,
        placement: args.placement.placement(),
        policy: args.policy.factory(),
        write_budget_per_day: args.write_budget.and_then(NonZeroU64::new),
        buffer_bytes: Some(buffers.max(4 * CALL_BYTES)),
        queue_depth: u32::try_from(in_flight.next_power_of_two().clamp(64, 4096)).unwrap_or(4096),
        queues_max: args.threads.max(StoreOptions::default().queues_max),
        ..StoreOptions::default()
    };
    let store = open(&args.store, options, output)?;
    let key = |n| format!("{KEY_START}{value_bytes}/{n}").into_bytes().into();
    Ok(Prepared {
        store,
        keys: (0..count).map(key).collect(),
        value_bytes,
    })
}

/// Largest number of values in flight on all threads.
fn in_flight(args: &BenchArgs) -> usize {
    let depth = if args.blocking { 0 } else { args.depth };
    depth.max(args.batch) * args.threads
}

/// Checks whether the run may use a store, without writing to it. Returns the number of keys of the run.
fn look(args: &BenchArgs, engine: EngineKind, is_new: bool) -> Result<u64, Failure> {
    let options = StoreOptions {
        read_only: true,
        ..writing(engine)
    };
    let store = open_quietly(&args.store, options)?;
    if !is_new {
        check_owner(&store, args)?;
        check_bytes(&store, args)?;
    }
    let count = count(&store, args)?;
    close(&store)?;
    Ok(count)
}

/// Refuses a run for which a new store would have too few slots, before it is made. A layout that is impossible is
/// left to the format.
fn check_new(args: &BenchArgs) -> Result<(), Failure> {
    let found = std::fs::metadata(&args.store).ok();
    let device_bytes = match (args.size, found) {
        (Some(bytes), _) => bytes,
        (None, None) => FILE_BYTES,
        (None, Some(file)) if file.is_file() && file.len() == 0 => FILE_BYTES,
        (None, Some(file)) if file.is_file() => file.len(),
        // The size of a device is not known here.
        (None, Some(_)) => return Ok(()),
    };
    let request = request(args, device_bytes, 0);
    let identity = Identity {
        uuid: StoreUuid([0; 16]),
        epoch: 1,
    };
    match plan(&request, identity) {
        Ok(planned) => count_of(Geometry::new(&planned).slots().into(), args).map(drop),
        Err(_) => Ok(()),
    }
}

/// Number of keys of the run: the slots, less those that its puts need at the same time.
fn count(store: &Store, args: &BenchArgs) -> Result<u64, Failure> {
    count_of(slots_for(store, args.value_bytes)?, args)
}

fn count_of(slots: u64, args: &BenchArgs) -> Result<u64, Failure> {
    let in_flight = in_flight(args);
    // A put takes a new slot before the slot of the replaced value is free.
    let spare = (slots / 10).max(2 * in_flight as u64);
    match slots.checked_sub(spare) {
        Some(count @ 1..) => Ok(count),
        _ => Err(Failure::usage(format!(
            "{} has {} for values of {}: with {in_flight} in flight, at least {} are needed",
            args.store.display(),
            counted(slots, "slot"),
            show_size(args.value_bytes),
            spare + 1
        ))),
    }
}

/// Returns whether the store can be used as it is: it exists, and with --yes its slots have the size of the
/// values. Without --yes no new store may replace it.
fn is_made_for(args: &BenchArgs) -> Result<bool, Failure> {
    if !rb_core::is_store(&args.store) || !args.yes {
        return Ok(rb_core::is_store(&args.store));
    }
    let options = StoreOptions {
        read_only: true,
        ..StoreOptions::default()
    };
    let store = open_quietly(&args.store, options)?;
    let wanted = args.value_bytes.next_multiple_of(4096);
    let found = store.geometry().largest_value();
    close(&store)?;
    Ok(found == wanted)
}

/// Makes the store and writes every block of it: the first write to a reserved block of a file system costs
/// more than later ones.
fn format_whole(args: &BenchArgs, engine: EngineKind) -> Result<(), Failure> {
    let is_new =
        std::fs::metadata(&args.store).map_or(true, |meta| meta.is_file() && meta.len() == 0);
    let options = FormatOptions {
        bytes: args.size.or(is_new.then_some(FILE_BYTES)),
        key_len_max: KEY_LEN_MAX,
        consent: args.yes,
        engine,
        ..FormatOptions::new(&args.store, vec![class(args)])
    };
    // Without consent this fails before anything is written.
    let made = make(&options)?;
    write_all(&args.store, made.superblock.device_bytes)?;
    make(&FormatOptions {
        consent: true,
        ..options
    })
    .map(drop)
}

/// Writes all of the file or device. The user has agreed that its content is destroyed.
fn write_all(path: &Path, bytes: u64) -> Result<(), Failure> {
    let failed = |source| Failure::File {
        what: "writing",
        path: path.to_path_buf(),
        source,
    };
    let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    let bar = progress::bar(bytes, "prewrite");
    let piece = vec![0xA5; PIECE];
    let mut at = 0;
    file.rewind().map_err(failed)?;
    while at < bytes {
        let len = piece.len().min((bytes - at) as usize);
        file.write_all(&piece[..len]).map_err(failed)?;
        at += len as u64;
        bar.set_position(at);
    }
    bar.finish_and_clear();
    file.sync_all().map_err(failed)
}

/// Refuses a store with entries that no bench put, and without --yes an empty store.
fn check_owner(store: &Store, args: &BenchArgs) -> Result<(), Failure> {
    let (mut of_bench, mut foreign) = (false, false);
    store.for_each(|entry| {
        foreign = !entry.key.starts_with(KEY_START.as_bytes());
        of_bench = !foreign;
        !foreign
    });
    let path = args.store.clone();
    match (foreign, of_bench || args.yes) {
        (true, _) => Err(Failure::BenchOther { path }),
        (false, false) => Err(Failure::BenchEmpty { path }),
        (false, true) => Ok(()),
    }
}

/// Refuses a size that an existing store was not made for. The same command may run twice.
fn check_bytes(store: &Store, args: &BenchArgs) -> Result<(), Failure> {
    let Some(wanted) = args.size else {
        return Ok(());
    };
    let superblock = store.superblock();
    let request = request(args, wanted, superblock.metadata_len_max);
    // A layout leaves less than a slot unused.
    let found = superblock.device_bytes;
    let planned = plan(&request, superblock.identity).map(|planned| planned.device_bytes);
    let is_file = std::fs::metadata(&args.store).is_ok_and(|file| file.len() == wanted);
    if is_file || planned == Ok(found) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--size is {wanted} bytes, and {} holds a store of {found} bytes: leave it out, or give --fresh --yes to make a new store",
        args.store.display()
    )))
}

/// The layout of a store that a bench makes.
fn request(args: &BenchArgs, device_bytes: u64, metadata_len_max: u32) -> LayoutRequest {
    LayoutRequest {
        device_bytes,
        classes: vec![class(args)],
        key_len_max: KEY_LEN_MAX,
        metadata_len_max,
        log_bytes: None,
    }
}

/// The only class of a store that a bench makes.
fn class(args: &BenchArgs) -> ClassRequest {
    ClassRequest {
        slot_bytes: args.value_bytes.next_multiple_of(4096),
        share: Share::Rest,
    }
}

/// Number of usable slots of the class for these values.
fn slots_for(store: &Store, value_bytes: u64) -> Result<u64, Failure> {
    let geometry = store.geometry();
    let class = geometry.class_for(value_bytes).ok_or_else(|| {
        Failure::usage(format!(
            "--value-bytes is {value_bytes}, the largest slot of the store holds {}: --yes --fresh makes a new store",
            geometry.largest_value()
        ))
    })?;
    let stats = store.stats();
    Ok(stats
        .index
        .classes
        .get(usize::from(class))
        .map_or(0, |class| class.capacity - class.bad))
}

impl Prepared {
    /// Number of keys in one call outside the measurement.
    pub(super) fn per_call(&self) -> usize {
        (CALL_BYTES / (self.value_bytes + 8192)).clamp(1, 1024)
    }

    /// Removes the entries of earlier runs that are not of this one: values of another length, or more of them.
    /// They take slots, so the puts of this run would evict its own values and the check would miss them.
    fn remove_others(&self) -> Result<(), Failure> {
        let own: HashSet<&[u8]> = self.keys.iter().map(|key| &**key).collect();
        let mut others = Vec::new();
        self.store.for_each(|entry| {
            if !own.contains(&*entry.key) {
                others.push(entry.key);
            }
            true
        });
        for keys in others.chunks(REMOVED_AT_ONCE) {
            let keys: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
            for (key, result) in keys.iter().zip(self.store.remove_many(&keys)) {
                result.map_err(|source| Failure::Key {
                    what: "removing",
                    key: key.to_vec(),
                    source,
                })?;
            }
        }
        match others.is_empty() {
            true => Ok(()),
            // A slot is free once its removal is durable.
            false => self.sync(),
        }
    }

    fn sync(&self) -> Result<(), Failure> {
        self.store.sync().map_err(|source| Failure::Store {
            what: "syncing",
            source,
        })
    }

    /// Puts the values that are missing. Afterwards the store holds the values of this run only.
    pub(super) fn fill(&self) -> Result<(), Failure> {
        self.remove_others()?;
        let bar = progress::bar(self.keys.len() as u64, "fill");
        for first in (0..self.keys.len()).step_by(self.per_call()) {
            let end = (first + self.per_call()).min(self.keys.len());
            let keys: Vec<&[u8]> = self.keys[first..end].iter().map(|key| &**key).collect();
            let there = self.store.contains_many(&keys);
            let missing = (first..end).zip(there).filter(|(_, there)| !there);
            let puts = missing
                .map(|(id, _)| self.value(id))
                .collect::<Result<Vec<_>, _>>()?;
            for (number, result) in self
                .store
                .put_many(puts, PutOptions::default())
                .into_iter()
                .enumerate()
            {
                result.map_err(|source| Failure::Key {
                    what: "putting",
                    key: keys.get(number).map_or_else(Vec::new, |key| key.to_vec()),
                    source,
                })?;
            }
            bar.set_position(end as u64);
        }
        bar.finish_and_clear();
        self.sync()
    }

    /// Makes the puts of a call.
    pub(super) fn values(&self, ids: &[usize]) -> Result<Vec<Put<'_>>, Failure> {
        ids.iter().map(|id| self.value(*id)).collect()
    }

    /// Makes the put of key number `id`, with a buffer of the store.
    pub(super) fn value(&self, id: usize) -> Result<Put<'_>, Failure> {
        let mut buffer = self
            .store
            .buffer(self.value_bytes)
            .map_err(|source| Failure::Store {
                what: "taking a buffer",
                source,
            })?;
        value::make(id as u64, &mut buffer);
        Ok(Put {
            payload: Payload::Buffer(buffer),
            ..Put::new(&self.keys[id], &[])
        })
    }
}
