//! Arguments of the commands that measure: `replay`, `bench` and `recover-bench`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{
    PlacementArgs, SIZES, StorePolicy, parse_exponent, parse_number, parse_positive, parse_seconds,
    path_parser,
};
use crate::size::parse_size;

/// Arguments of `rb replay`.
#[derive(Debug, Args)]
// clap does not wrap the usage, and this one is longer than 80 columns.
#[command(after_help = SIZES, override_usage = "rb replay [OPTIONS] --store <PATH> --slots <N>\n                 --slot-bytes <SIZE> <TRACE>")]
pub struct ReplayArgs {
    /// JSON lines with `hash_ids` for each request (the format of the Mooncake traces), as they are or
    /// compressed with zstd.
    #[arg(value_parser = path_parser())]
    pub trace: PathBuf,
    /// The store. It is made with exactly --slots slots.
    #[arg(long, value_name = "PATH", value_parser = path_parser())]
    pub store: PathBuf,
    /// Number of slots.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = parse_number::<u64>)]
    pub slots: u64,
    /// Length of the largest value that a slot holds.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_size, value_name = "SIZE")]
    pub slot_bytes: u64,
    /// Length of each block. Default: --slot-bytes.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_size, value_name = "SIZE")]
    pub value_bytes: Option<u64>,
    /// Index shards, a power of two. With 1, eviction is exact. Default: chosen from the slots.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = parse_number::<u32>)]
    pub shards: Option<u32>,
    /// Eviction policy of the store.
    #[arg(long, value_enum, default_value_t)]
    pub policy: StorePolicy,
    /// Write at most so many bytes in any 24 hours. Default: no limit.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_size, value_name = "SIZE")]
    pub write_budget: Option<u64>,
    /// Stop after this many requests.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = parse_number::<u64>)]
    pub requests: Option<u64>,
    /// Close and reopen the store after every N requests.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = parse_positive::<u64>)]
    pub restart_every: Option<u64>,
    /// Also write a page with charts to this file: throughput and latency over time, percentiles and a
    /// histogram. It replaces the file after all of it was written. It has no script and loads nothing.
    #[arg(long, value_name = "FILE", value_parser = path_parser())]
    pub html: Option<PathBuf>,
    /// Agree that the content of --store is destroyed.
    #[arg(long)]
    pub yes: bool,
    /// Placement ids.
    #[command(flatten)]
    pub placement: PlacementArgs,
}

/// Arguments of `rb bench`.
#[derive(Debug, Args)]
#[command(after_help = SIZES)]
pub struct BenchArgs {
    /// The store: made if there is none, else the store of an earlier run. It is not removed.
    #[arg(long, value_name = "PATH", value_parser = path_parser())]
    pub store: PathBuf,
    /// The operation to measure. Puts replace existing values, gets read them. Keys are random.
    #[arg(long, value_enum)]
    pub op: BenchOp,
    /// With --op mixed: part of the calls that are gets, 0 to 100 percent. Default: 70.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = parse_number::<u32>)]
    pub get_percent: Option<u32>,
    /// Choose keys by Zipf's law: the k-th most popular key is chosen in proportion to 1/k^S, with S
    /// from 0 to 10. Without it all keys are equally likely.
    #[arg(long, allow_negative_numbers = true, value_name = "S", value_parser = parse_exponent)]
    pub zipf: Option<f64>,
    /// Length of each value, 16 bytes to 64 MiB.
    #[arg(long, allow_negative_numbers = true, default_value = "64KiB", value_parser = parse_size, value_name = "SIZE")]
    pub value_bytes: u64,
    /// Values in each call.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 1,
        value_name = "N", value_parser = parse_number::<usize>)]
    pub batch: usize,
    /// Values in flight on each thread, in as many async calls as they need.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 32,
        value_name = "N", value_parser = parse_number::<usize>)]
    pub depth: usize,
    /// Measure blocking calls, one after the other on each thread.
    #[arg(long)]
    pub blocking: bool,
    /// Threads that call the store.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 1,
        value_name = "N", value_parser = parse_number::<usize>)]
    pub threads: usize,
    /// Duration of the measurement in seconds.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 5.0,
        value_name = "S",
        value_parser = parse_seconds
    )]
    pub seconds: f64,
    /// Size of the file to make (default 2GiB); on a device, how much of it to use. An existing
    /// store must have this size.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_size, value_name = "SIZE")]
    pub size: Option<u64>,
    /// Eviction policy of the store.
    #[arg(long, value_enum, default_value_t)]
    pub policy: StorePolicy,
    /// Write at most so many bytes in any 24 hours. Puts of the measurement replace values, and are not refused.
    /// Default: no limit.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_size, value_name = "SIZE")]
    pub write_budget: Option<u64>,
    /// Make a new store even if there is one for values of this length.
    #[arg(long)]
    pub fresh: bool,
    /// Also write a page with charts to this file: throughput and latency over time, percentiles and a
    /// histogram. It replaces the file after all of it was written. It has no script and loads nothing.
    #[arg(long, value_name = "FILE", value_parser = path_parser())]
    pub html: Option<PathBuf>,
    /// Agree that the content of --store is destroyed if a new store has to be made, because there is
    /// none or its slots have another size than the values. Also agree that an empty store is filled.
    #[arg(long)]
    pub yes: bool,
    /// Placement ids.
    #[command(flatten)]
    pub placement: PlacementArgs,
}

/// The operation that `rb bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BenchOp {
    /// Put values.
    Put,
    /// Get values.
    Get,
    /// Get and put values.
    Mixed,
    /// Nothing: the cost of an open store that has no callers.
    Idle,
}

/// Arguments of `rb recover-bench`.
#[derive(Debug, Args)]
#[command(after_help = SIZES)]
pub struct RecoverBenchArgs {
    /// The entries.
    #[command(flatten)]
    pub fill: FillArgs,
    /// Agree that the content of --store is destroyed.
    #[arg(long)]
    pub yes: bool,
    /// Do not remove the store at the end. A store that existed before is never removed.
    #[arg(long)]
    pub keep: bool,
    /// Also measure a restart with a full log and no checkpoint since the store was filled.
    #[arg(long)]
    pub full_log: bool,
    /// Measure each case N times, each after its own kill. The result is the round with the median time
    /// to the first verified get (of an even number the slower of the two in the middle), and the range.
    #[arg(long, allow_negative_numbers = true, default_value_t = 1, value_name = "N", value_parser = parse_positive::<u32>)]
    pub rounds: u32,
}

/// The entries of a store under measurement.
#[derive(Clone, Debug, Args)]
pub struct FillArgs {
    /// The store, a file to make.
    #[arg(long, value_name = "PATH", value_parser = path_parser())]
    pub store: PathBuf,
    /// Number of entries, at least 20000; the store has the slots for them and no more.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = parse_number::<u64>)]
    pub entries: u64,
    /// Length of each key in bytes, 8 to 1024.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 32,
        value_name = "N", value_parser = parse_number::<u32>)]
    pub key_bytes: u32,
    /// Length of each value.
    #[arg(long, allow_negative_numbers = true, default_value = "4096", value_parser = parse_size, value_name = "SIZE")]
    pub value_bytes: u64,
    /// Number of slots that each value takes, 1 to 256 and at most one for every 4 KiB of the value.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 1,
        value_name = "N", value_parser = parse_number::<u64>)]
    pub value_slots: u64,
    /// Write only the values of slots whose number is a multiple of N, so that a sparse file smaller
    /// than its values suffices. All metadata is written. Validation would drop the other entries, so
    /// above 1 nothing is validated (--validate off).
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 1,
        value_name = "N", value_parser = parse_number::<u64>)]
    pub write_every: u64,
    /// Validation of recovered entries when a measured process opens the store.
    #[arg(long, value_enum, default_value = "lazy")]
    pub validate: ValidateMode,
    /// Largest number of requests in flight while entries are validated, 1 to 4096.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 256,
        value_name = "N", value_parser = parse_number::<u32>)]
    pub depth: u32,
}

/// Time at which recovered entries are compared with the headers of their slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ValidateMode {
    /// At the first read, and in the background after a kill.
    Lazy,
    /// All before the store serves.
    Eager,
    /// At the first read only.
    Off,
}

impl ValidateMode {
    /// The mode's name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ValidateMode::Lazy => "lazy",
            ValidateMode::Eager => "eager",
            ValidateMode::Off => "off",
        }
    }
}

/// Arguments of the process that `rb recover-bench` kills.
#[derive(Debug, Args)]
pub struct RecoverChurnArgs {
    /// The entries.
    #[command(flatten)]
    pub fill: FillArgs,
    /// The state of the log in which to ask for the kill.
    #[arg(long, value_enum)]
    pub until: Until,
}

/// Length of the log when the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Until {
    /// Just before the next checkpoint would start.
    Usual,
    /// The longest that the log gets while checkpoints run concurrently with the writing.
    Longest,
    /// A full log ring: no checkpoint was ever written.
    Full,
}

impl Until {
    /// The stage's name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Until::Usual => "usual",
            Until::Longest => "longest",
            Until::Full => "full",
        }
    }
}
