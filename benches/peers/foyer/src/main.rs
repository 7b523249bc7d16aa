//! Runs foyer's storage part under the load that `cargo xtask bench` gives to every store; prints one line of JSON.
//!
//! The memory part holds next to nothing, and the measured operations bypass it: puts use the storage writer, gets use
//! `storage().load()`. A get that is served from memory, or a run whose reads never reach the device, is an error.
//! foyer prints a line of its own first; the JSON is the last line.

mod load;
mod value;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use foyer::{
    BlockEngineConfig, DeviceBuilder, FileDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy, IoEngineConfig, PsyncIoEngineConfig, RecoverMode, UringIoEngineConfig,
};

use crate::value::Value;

/// Error type of this program. Only its message is used.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Cache = HybridCache<u64, Value>;

/// Bytes between two waits for the flusher. The flusher's queue holds twice as much, so it never has to drop values.
const PACE_BYTES: usize = 64 << 20;

/// Measures foyer.
#[derive(Debug, Parser)]
struct Args {
    /// A file or block device that already has its size; its contents are lost.
    #[arg(long)]
    file: PathBuf,
    /// Operation to measure.
    #[arg(long)]
    op: Op,
    /// Bytes of a value, at least 16.
    #[arg(long, value_parser = clap::value_parser!(u64).range(16..=64 << 20))]
    value_bytes: u64,
    /// Gets in flight. Has no effect on puts, which are only queued.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=4096))]
    depth: u64,
    /// Seconds to measure.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// I/O engine that foyer uses for the file.
    #[arg(long)]
    engine: Engine,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Op {
    Put,
    Get,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Engine {
    Psync,
    #[value(name = "io_uring")]
    IoUring,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("peer-foyer: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let line = runtime.block_on(async {
        let cache = open(args).await?;
        let line = match args.op {
            Op::Put => load::put(&cache, args).await?,
            Op::Get => load::get(&cache, args).await?,
        };
        Ok::<_, Failure>(line)
    })?;
    writeln!(std::io::stdout(), "{line}")?;
    // Exit without closing: closing would flush the memory part, and nothing here outlives the
    // measurement.
    std::process::exit(0);
}

/// Opens foyer over the whole file, without the contents of an earlier run.
async fn open(args: &Args) -> Result<Cache, Failure> {
    let capacity = value::file_bytes(&args.file)?;
    let device = FileDeviceBuilder::new(&args.file)
        .with_capacity(usize::try_from(capacity)?)
        .with_direct(true)
        .build()?;
    let engine: Box<dyn IoEngineConfig> = match args.engine {
        Engine::Psync => Box::new(PsyncIoEngineConfig::new()),
        Engine::IoUring => Box::new(UringIoEngineConfig::new()),
    };
    // A block must hold the largest value and the block's own index.
    let block_bytes = (16 << 20).max(4 * usize::try_from(args.value_bytes)?);
    let blocks = BlockEngineConfig::new(device)
        .with_block_size(block_bytes)
        .with_buffer_pool_size(2 * PACE_BYTES)
        .with_submit_queue_size_threshold(2 * PACE_BYTES);
    let cache = HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_flush_on_close(false)
        .memory(1)
        .with_shards(1)
        .storage()
        .with_io_engine_config(engine)
        .with_engine_config(blocks)
        .with_recover_mode(RecoverMode::None)
        .build()
        .await?;
    Ok(cache)
}
