//! The command line of `rb`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use rb_core::{ClassRequest, EngineKind, Placement, PlacementId};

use crate::size::{parse_class, parse_size};

const SIZES: &str = "SIZE is a number of bytes, or one with a unit: 4096, 64KiB, 1MiB, 1.5GiB, 1TiB (64k, 1m … too; always powers of 1024).";
const CODES: &str = "Exit codes: 0 done, 1 error (one line on standard error, or with --json {\"error\": …} on standard output), 2 the key is not there; of rb fsck also 4 damaged, 8 unusable.";
const FSCK: &str = "Damage is what no crash leaves behind: a store that was killed is clean, and what the kill left is remarked on.\n\nExit codes: 0 clean (or repaired), 1 no answer (one line on standard error: no store there, in use, of another version, the device does not answer), 4 damaged, 8 unusable: it cannot be opened.";

/// Format, inspect, use and measure raw-block stores: crash-safe persistent caches for large values.
#[derive(Debug, Parser)]
#[command(name = "rb", version, after_help = format!("{SIZES}\n\n{CODES}"))]
pub struct Cli {
    /// Print results as one line of JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// How the device is reached: auto, posix, io_uring, uring_cmd or libblkio. Only auto may fall
    /// back, and `rb info` says what it rejected and why.
    #[arg(long, global = true, default_value = "auto", value_name = "ENGINE")]
    pub engine: EngineKind,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole thing: a chat workload on a temporary store, a hard kill in the middle, the
    /// restart, and a check of every byte. Needs no device and no arguments.
    Demo(DemoArgs),
    /// Make an empty store on a device, in a file, or in a file to be made.
    Format(FormatArgs),
    /// Show what a store is, holds, and how its last shutdown was. Never writes to it.
    Info(InfoArgs),
    /// Show what a path offers: every engine, usable or why not, every limit with its source, and what
    /// to change to get the fast path. Never writes and claims nothing.
    Probe(ProbeArgs),
    /// Check a store: everything that recovery reads, and every live slot. Never writes to it, unless
    /// told to repair. Exit code 4 if it is damaged, 8 if it is unusable.
    Fsck(FsckArgs),
    /// Show any structure of a store field by field, sound or not. Never writes to it.
    Inspect(InspectArgs),
    /// Put one value and make it durable.
    Put(PutArgs),
    /// Get one value. Exit code 2 if the key is not there.
    Get(GetArgs),
    /// Remove keys; exit code 0 whether they were there or not.
    Rm(RmArgs),
    /// List keys, lengths and slots. Never writes to the store.
    Ls(LsArgs),
    /// Replay a trace of KV-cache requests, checking every byte that is served.
    Replay(ReplayArgs),
    /// Measure how fast a store puts or gets, and check every byte afterwards.
    Bench(BenchArgs),
    /// Measure how soon a full store serves again after a clean close and after a kill.
    RecoverBench(RecoverBenchArgs),
    /// The process that `rb demo` kills.
    #[command(hide = true)]
    DemoChild(DemoChildArgs),
    /// The process that `rb recover-bench` measures.
    #[command(hide = true)]
    RecoverProbe(FillArgs),
    /// The process that `rb recover-bench` kills.
    #[command(hide = true)]
    RecoverChurn(RecoverChurnArgs),
}

/// Arguments of `rb demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where to make the temporary folder; it takes about 1 GiB. The system's place for temporary
    /// files if not given.
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Turns after the restart.
    #[arg(long, hide = true, default_value_t = 3000)]
    pub turns: u64,
}

/// Arguments of the process that `rb demo` kills.
#[derive(Debug, Args)]
pub struct DemoChildArgs {
    /// The store.
    #[arg(long)]
    pub store: PathBuf,
}

/// Arguments of `rb info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The store.
    pub path: PathBuf,
}

/// Arguments of `rb probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// A file, a device node or a vhost-user socket.
    pub path: PathBuf,
}

/// Arguments of `rb format`.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// The device, or the file to be made or used.
    pub path: PathBuf,
    /// Slot classes: the capacity of a slot for a value, and the share of the space in percent.
    /// Classes without a share divide what the others leave evenly.
    #[arg(long, required = true, value_delimiter = ',', value_parser = parse_class, value_name = "SIZE[:SHARE%]")]
    pub slot_bytes: Vec<ClassRequest>,
    /// Size of the file to be made or grown; on a device, how much of it to use.
    #[arg(long, value_parser = parse_size)]
    pub size: Option<u64>,
    /// Exactly so many slots, of one class without a share; a file is made as large as they need.
    #[arg(long, value_name = "N", conflicts_with = "size")]
    pub slots: Option<u64>,
    /// Agree that everything on an existing file or device is destroyed.
    #[arg(long)]
    pub yes: bool,
    /// Destroy even a file system, a partition table or another foreign signature.
    #[arg(long)]
    pub force: bool,
    /// The longest key in bytes, 1 to 1024.
    #[arg(long, default_value_t = 512, value_name = "N")]
    pub key_bytes: u32,
    /// The longest metadata in bytes, 0 to 256.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub metadata_bytes: u32,
    /// Size of the delta log; chosen from the number of slots if not given.
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    pub log_size: Option<u64>,
    /// Leave the blocks of a file's slots unallocated. A full file system then fails puts later. The metadata has its blocks.
    #[arg(long)]
    pub sparse: bool,
    /// Tell the device that nothing in the slots is needed; a file gives its blocks back, as with --sparse.
    #[arg(long)]
    pub discard: bool,
}

/// Arguments of `rb fsck`.
#[derive(Debug, Args)]
#[command(after_help = FSCK)]
pub struct FsckArgs {
    /// The store.
    pub path: PathBuf,
    /// Read the payload of every live entry too, not only its header.
    #[arg(long)]
    pub deep: bool,
    /// If it is damaged, repair it: what has another copy is written anew, entries that do not prove
    /// themselves are dropped, and lost metadata is rebuilt from slot headers (a removed key may
    /// return). Asks first.
    #[arg(long)]
    pub repair: bool,
    /// Agree to the repair without being asked.
    #[arg(long, requires = "repair")]
    pub yes: bool,
    /// Look at the store though another process has it open for writing. It changes meanwhile, so
    /// findings may be false. With --repair something else: write over what shows the device to be somebody
    /// else's, a superblock copy that is as no crash leaves it included.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `rb inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The store.
    pub path: PathBuf,
    /// What to show; everything but slots if not given.
    #[arg(value_enum)]
    pub structure: Option<Structure>,
    /// Only this one of the two.
    #[arg(long, value_enum)]
    pub copy: Option<Which>,
    /// One block of the log with its records, by its sequence; without it, the blocks since the newest
    /// base in one line each.
    #[arg(long, value_name = "N")]
    pub block: Option<u64>,
    /// The slot with this number.
    #[arg(long, value_name = "N", conflicts_with = "key")]
    pub slot: Option<u32>,
    /// The slot that holds this key: text, or bytes as hex:00ff….
    #[arg(long)]
    pub key: Option<String>,
}

/// A kind of structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Structure {
    /// The two superblock copies.
    Superblock,
    /// The two incarnation blocks: who opened the store for writing.
    Incarnation,
    /// The two checkpoint bases: header, directory, and the header of each section.
    Base,
    /// The delta log.
    Log,
    /// A slot's header, and whether the slot is live.
    Slot,
}

/// One of two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    /// The first.
    A,
    /// The second.
    B,
}

/// Arguments of `rb put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// The store.
    pub path: PathBuf,
    /// The key: text, or bytes as hex:00ff….
    pub key: String,
    /// The file with the value; `-` reads standard input.
    pub file: PathBuf,
    /// Keep the value that is there, if one is.
    #[arg(long)]
    pub keep: bool,
    /// Metadata to keep with the value.
    #[arg(long, default_value = "", value_name = "STRING")]
    pub metadata: String,
    /// Write to a store that lost metadata. What the headers of its slots prove becomes its content;
    /// keys that had been removed may be back.
    #[arg(long)]
    pub accept_lost_metadata: bool,
    /// Write to the store although the device shows to be somebody else's: a partition table, a file system or
    /// bytes of unknown origin where the store leaves nothing. What is there stays as far as the store does
    /// not write to its place.
    #[arg(long)]
    pub force: bool,
    /// Where the device puts it.
    #[command(flatten)]
    pub placement: PlacementArgs,
}

/// Where the device puts what is written.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct PlacementArgs {
    /// Placement id (1 or more) of the log and the checkpoints, on a device that has such.
    #[arg(long, value_name = "ID", value_parser = parse_placement)]
    pub placement_metadata: Option<PlacementId>,
    /// Placement id (1 or more) of the values, on a device that has such.
    #[arg(long, value_name = "ID", value_parser = parse_placement)]
    pub placement_data: Option<PlacementId>,
}

impl PlacementArgs {
    pub(crate) fn placement(self) -> Placement {
        Placement {
            metadata: self.placement_metadata,
            lifetimes: self.placement_data.into_iter().collect(),
        }
    }
}

fn parse_placement(text: &str) -> Result<PlacementId, String> {
    let id = text.parse().map(PlacementId);
    id.map_err(|_| format!("a placement id is a number from 1 to {}", u16::MAX))
}

/// Arguments of `rb get`.
#[derive(Debug, Args)]
#[command(after_help = CODES)]
pub struct GetArgs {
    /// The store.
    pub path: PathBuf,
    /// The key: text, or bytes as hex:00ff….
    pub key: String,
    /// Write the value to this file, not to standard output. It is not touched on a miss, and
    /// replaced, with mode 0600, only when the whole value is written.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Agree that the value is written over what is on a block device given with -o.
    #[arg(long, requires = "output")]
    pub yes: bool,
    /// Write even over a file system, a partition table or another foreign signature.
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// Arguments of `rb rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The store.
    pub path: PathBuf,
    /// The keys: text, or bytes as hex:00ff….
    #[arg(required = true)]
    pub keys: Vec<String>,
    /// Write to a store that lost metadata. What the headers of its slots prove becomes its content;
    /// keys that had been removed may be back.
    #[arg(long)]
    pub accept_lost_metadata: bool,
    /// Write to the store although the device shows to be somebody else's: a partition table, a file system or
    /// bytes of unknown origin where the store leaves nothing. What is there stays as far as the store does
    /// not write to its place.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `rb ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The store.
    pub path: PathBuf,
    /// Only keys that begin so: text, or bytes as hex:00ff….
    #[arg(long, default_value = "")]
    pub prefix: String,
}

/// Arguments of `rb replay`.
#[derive(Debug, Args)]
#[command(after_help = SIZES)]
pub struct ReplayArgs {
    /// JSON lines with `hash_ids` per request (the format of the Mooncake traces).
    pub trace: PathBuf,
    /// The store: made with exactly --slots slots if it does not exist or is empty.
    #[arg(long, value_name = "PATH")]
    pub store: PathBuf,
    /// Number of slots.
    #[arg(long, value_name = "N")]
    pub slots: u64,
    /// Capacity of a slot.
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    pub slot_bytes: u64,
    /// Bytes of each block; the slot's capacity if not given.
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    pub value_bytes: Option<u64>,
    /// Index shards, a power of two; 1 makes eviction exact. Chosen from the slots if not given.
    #[arg(long, value_name = "N")]
    pub shards: Option<u32>,
    /// Stop after so many requests.
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// Close and reopen the store after every so many requests.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub restart_every: Option<u64>,
    /// Agree that what is in --store is destroyed.
    #[arg(long)]
    pub yes: bool,
    /// Where the device puts what is written.
    #[command(flatten)]
    pub placement: PlacementArgs,
}

/// Arguments of `rb bench`.
#[derive(Debug, Args)]
#[command(after_help = SIZES)]
pub struct BenchArgs {
    /// The store: made if there is none, else one that an earlier run made. It stays.
    #[arg(long, value_name = "PATH")]
    pub store: PathBuf,
    /// What to measure. Puts replace values that are there, gets read them; keys are taken at random.
    #[arg(long, value_enum)]
    pub op: BenchOp,
    /// Length of each value, 16 bytes to 64 MiB.
    #[arg(long, default_value = "64KiB", value_parser = parse_size, value_name = "SIZE")]
    pub value_bytes: u64,
    /// Values in each call.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub batch: usize,
    /// Values in flight on each thread, in as many async calls as that takes.
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub depth: usize,
    /// Measure blocking calls, one after the other on each thread.
    #[arg(long)]
    pub blocking: bool,
    /// Threads that call the store.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0, value_name = "S")]
    pub seconds: f64,
    /// Size of a file to be made (2GiB if not given); on a device, how much of it to use.
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    pub size: Option<u64>,
    /// Make a new store even if there is one for values of this length.
    #[arg(long)]
    pub fresh: bool,
    /// Agree that what is in --store is destroyed where a new store is made: if there is none, or one whose
    /// slots are of another size than the values; and that a store that is empty is filled.
    #[arg(long)]
    pub yes: bool,
    /// Where the device puts what is written.
    #[command(flatten)]
    pub placement: PlacementArgs,
}

/// What `rb bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BenchOp {
    /// Putting values.
    Put,
    /// Getting values.
    Get,
    /// Nothing: what an open store costs that nobody uses.
    Idle,
}

/// Arguments of `rb recover-bench`.
#[derive(Debug, Args)]
#[command(after_help = SIZES)]
pub struct RecoverBenchArgs {
    /// What the store is filled with.
    #[command(flatten)]
    pub fill: FillArgs,
    /// Agree that what is in --store is destroyed.
    #[arg(long)]
    pub yes: bool,
    /// Do not remove the store at the end. One that existed before is never removed.
    #[arg(long)]
    pub keep: bool,
    /// Measure besides how long it takes if no checkpoint was ever written and the log is full.
    #[arg(long)]
    pub full_log: bool,
    /// Measure each case so often, after a kill anew for each; the round with the median time to the
    /// first verified get is shown (of an even number the slower of the two in the middle), and the range.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
}

/// What a store under measurement is filled with.
#[derive(Clone, Debug, Args)]
pub struct FillArgs {
    /// The store, a file to be made.
    #[arg(long, value_name = "PATH")]
    pub store: PathBuf,
    /// Number of slots and of entries, at least 20000.
    #[arg(long, value_name = "N")]
    pub entries: u64,
    /// Length of each key, 8 to 1024.
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub key_bytes: u32,
    /// Length of each value.
    #[arg(long, default_value = "4096", value_parser = parse_size, value_name = "SIZE")]
    pub value_bytes: u64,
    /// Write only the values of slots whose number is a multiple of N, and leave out the writes of the others, so
    /// that a sparse file smaller than its values will do. Metadata is written whole. Entries without their
    /// bytes would not survive a look at them, so above 1 nothing is validated (--validate off).
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub write_every: u64,
    /// How recovered entries are validated when a store is opened that is measured.
    #[arg(long, value_enum, default_value = "lazy")]
    pub validate: ValidateMode,
    /// Requests in flight at most while entries are validated, 1 to 4096.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub depth: u32,
}

/// When entries that were recovered are checked against the headers of their slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ValidateMode {
    /// By their first read, and in the background after a kill.
    Lazy,
    /// All before the store serves.
    Eager,
    /// By their first read only.
    Off,
}

impl ValidateMode {
    /// As it is written on the command line.
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
    /// What the store is filled with.
    #[command(flatten)]
    pub fill: FillArgs,
    /// When to say that it is to be killed.
    #[arg(long, value_enum)]
    pub until: Until,
}

/// How long the log is to be when the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Until {
    /// Just before the next checkpoint would start.
    Quarter,
    /// As long as it gets while checkpoints run beside the writing.
    Longest,
    /// As long as it can be: no checkpoint was ever written.
    Full,
}

impl Until {
    /// As it is written on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Until::Quarter => "quarter",
            Until::Longest => "longest",
            Until::Full => "full",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn stages_are_read_by_their_names() {
        use clap::ValueEnum;
        for until in Until::value_variants() {
            assert_eq!(Until::from_str(until.name(), false).as_ref(), Ok(until));
        }
    }
}
