//! Measures the write amplification of a flash drive under a store that a trace drives, without and with placement
//! handles. `cargo run --release -p rb-bench --bin flash_profile -- TRACE [--capacity 2,10] [--json]`
//!
//! The store is the real one, over a device in memory. Each write of a slot that reaches the device is a write of a page
//! of the flash model, to the handle that the store has named. Counted from the time at which one and a half times the
//! capacity was written.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use rb_core::policy::Learned;
use rb_core::{
    ClassRequest, Error, FormatOptions, Placement, PlacementId, Put, PutOptions, SeededRandom,
    Share, Store, StoreOptions, format,
};
use rb_format::Geometry;
use rb_io::{Engine, Limit, Limits, OpKind};
use rb_testkit::{Flash, MemDevice, MemEngine, Moment, Shape};
use serde_json::{Value as Json, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a slot: the least, because no byte of a value matters here.
const SLOT_BYTES: u64 = 4096;
const VALUE: [u8; 16] = [7; 16];
/// Spare space of the drives, as parts of what the host sees.
const SPARES: [f64; 3] = [0.07, 0.15, 0.28];

/// Measures write amplification without and with placement handles.
#[derive(Debug, Parser)]
struct Args {
    /// JSON lines with `hash_ids`, perhaps compressed with zstd
    trace: PathBuf,
    /// Capacities in percent of the distinct blocks
    #[arg(long, value_delimiter = ',', default_values_t = [2.0, 10.0])]
    capacity: Vec<f64>,
    /// Erase blocks of a drive
    #[arg(long, default_value_t = 128)]
    blocks: u32,
    /// Placement handles of values
    #[arg(long, default_value_t = 4)]
    handles: u8,
    /// Stores with different secrets, which spread the keys differently: the mean of them is shown
    #[arg(long, default_value_t = 3)]
    stores: u64,
    /// Print one line of JSON for each result; otherwise it is indented
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("flash_profile: {why}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result of a program")]
fn run(args: &Args) -> Result<(), Failure> {
    let chains = chains(&args.trace)?;
    let mut blocks: Vec<u64> = chains.concat();
    blocks.sort_unstable();
    blocks.dedup();
    for percent in &args.capacity {
        let slots = (blocks.len() as f64 * percent / 100.0) as u32;
        let without = mean(args, &chains, slots, 1)?;
        let with = mean(args, &chains, slots, args.handles)?;
        let result = json!({
            "capacity_percent": percent,
            "slots": slots,
            "erase_blocks": args.blocks,
            "handles": args.handles,
            "spare_ratio": SPARES,
            "without_handles": without,
            "with_handles": with,
        });
        match args.json {
            true => println!("{result}"),
            false => println!("{result:#}"),
        }
    }
    Ok(())
}

/// Returns the blocks of each request.
fn chains(trace: &Path) -> Result<Vec<Vec<u64>>, Failure> {
    let file = BufReader::new(File::open(trace)?);
    let lines: Box<dyn BufRead> = match trace.extension().is_some_and(|end| end == "zst") {
        true => Box::new(BufReader::new(zstd::Decoder::with_buffer(file)?)),
        false => Box::new(file),
    };
    let chain = |line: std::io::Result<String>| {
        let request: Json = serde_json::from_str(&line?)?;
        let ids = request["hash_ids"].as_array().ok_or("no hash_ids")?;
        let ids: Option<Vec<u64>> = ids.iter().map(Json::as_u64).collect();
        Ok(ids.ok_or("an id is no number")?)
    };
    lines.lines().map(chain).collect()
}

/// Returns the mean write amplification for each spare space.
fn mean(args: &Args, chains: &[Vec<u64>], slots: u32, handles: u8) -> Result<Vec<f64>, Failure> {
    let mut mean = vec![0.0; SPARES.len()];
    for secret in 1..=args.stores {
        let one = measure(args, chains, slots, handles, secret)?;
        let parts = mean.iter_mut().zip(one);
        parts.for_each(|(mean, one)| *mean += one / args.stores as f64);
    }
    Ok(mean)
}

/// Drives a store with the trace and returns the write amplification for each spare space.
fn measure(
    args: &Args,
    chains: &[Vec<u64>],
    slots: u32,
    handles: u8,
    secret: u64,
) -> Result<Vec<f64>, Failure> {
    let classes = vec![ClassRequest {
        slot_bytes: SLOT_BYTES,
        share: Share::Slots(slots.into()),
    }];
    let bytes = rb_format::device_bytes_for(&classes, 16, 0, None)?;
    let limits = Limits {
        placements: Some(Limit::new(u16::from(handles), "flash_profile")),
        ..Limits::simple(512, 1 << 20, "flash_profile")
    };
    let device = MemDevice::with_limits(bytes, limits);
    let engine: Arc<dyn Engine> = Arc::new(MemEngine::new(Arc::clone(&device)));
    let formatted = format(&FormatOptions {
        key_len_max: 16,
        ..FormatOptions::new(Arc::clone(&engine), classes)
    })?;
    let geometry = Geometry::new(&formatted.superblock);
    let drives = SPARES.map(|spare| {
        Flash::new(Shape {
            pages: slots,
            block_pages: slots.div_ceil(args.blocks),
            spare,
            handles,
        })
    });
    let drives = Arc::new(Mutex::new((drives, 0)));
    let written = Arc::clone(&drives);
    device.observe(move |moment, requests| {
        if moment == Moment::Before {
            return;
        }
        let (drives, pages) = &mut *written.lock().unwrap_or_else(PoisonError::into_inner);
        for request in requests.iter().filter(|one| one.op == OpKind::Write) {
            let (Some(slot), Some(id)) = (geometry.slot_at(request.offset), request.placement)
            else {
                continue;
            };
            *pages += 1;
            for drive in drives.iter_mut() {
                drive.write(slot, (id.0.get() - 1) as u8);
                if *pages == u64::from(slots) * 3 / 2 {
                    drive.reset_counts();
                }
            }
        }
    });
    let ids = (1..=u16::from(handles)).filter_map(NonZeroU16::new);
    let options = StoreOptions {
        policy: Some(Arc::new(Learned::default())),
        placement: Placement {
            metadata: None,
            lifetimes: ids.map(PlacementId).collect(),
        },
        random: Arc::new(SeededRandom::new(secret)),
        timed: false,
        ..StoreOptions::default()
    };
    let store = Store::open(engine, options)?;
    chains.iter().try_for_each(|chain| request(&store, chain))?;
    store.close()?;
    let (drives, _) = &*drives.lock().unwrap_or_else(PoisonError::into_inner);
    let drives = drives.iter();
    Ok(drives
        .map(|drive| drive.written().amplification())
        .collect())
}

/// Looks up all blocks of a request, and puts those that are missing.
fn request(store: &Store, chain: &[u64]) -> Result<(), Error> {
    let keys: Vec<[u8; 8]> = chain.iter().map(|id| id.to_le_bytes()).collect();
    let names: Vec<&[u8]> = keys.iter().map(<[u8; 8]>::as_slice).collect();
    let leases = store.lookup_and_pin(&names);
    let missing = names
        .iter()
        .zip(&leases)
        .filter(|(_, lease)| lease.is_none());
    let puts: Vec<Put<'_>> = missing.map(|(name, _)| Put::new(name, &VALUE)).collect();
    store.unpin(leases.into_iter().flatten().collect());
    for answer in store.put_many(puts, PutOptions::default()) {
        answer?;
    }
    Ok(())
}
