//! The command line of `rb`.

mod capacity;
mod hint_rates;
mod measuring;
mod shared;
mod simulating;
mod watching;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use rb_core::{ClassRequest, EngineKind};

use crate::log::{LogFilter, parse_filter};
use crate::size::{parse_class, parse_size};
use crate::version::{LONG, SHORT};
pub use capacity::Capacity;
pub use hint_rates::HintRates;
pub use measuring::{
    BenchArgs, BenchOp, FillArgs, RecoverBenchArgs, RecoverChurnArgs, ReplayArgs, Until,
    ValidateMode,
};
pub use shared::{PlacementArgs, StorePolicy};
use shared::{SIZES, parse_number, path_parser};
pub use simulating::{PolicyName, SimulateArgs};
pub use watching::{ClearArgs, LsArgs, LsOrder, ScrubArgs, StatsArgs, TopArgs};

const CODES: &str = "Exit codes: 0 done; 1 error: one line on standard error, or with --json one line of JSON on standard output; 2 the key is not in the store. rb fsck also: 4 damaged, 8 unusable. rb scrub also: 4 damaged. rb stats and rb top --once also: 4 with an alarm. rb probe also: 8 no engine can use the path, or with --engine not that one.";
const FSCK: &str = "Damage is what no crash leaves behind. A store whose process was killed is clean; what the kill left is reported as a remark.\n\nExit codes: 0 clean, or repaired; 1 no result: no store there, in use, of another version, or the device failed; 4 damaged; 8 unusable: the store cannot be opened.";

/// Format, inspect, use and measure raw-block stores: crash-safe persistent caches for large values.
#[derive(Debug, Parser)]
#[command(name = "rb", version = SHORT.as_str(), long_version = LONG.as_str(), after_help = format!("{SIZES}\n\n{CODES}"))]
pub struct Cli {
    /// Print the result as one line of JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// How to reach the device: auto, posix, io_uring, uring_cmd or libblkio. auto takes the fastest
    /// engine that works, rb format the simplest; rb info shows which ones it rejected and why. Any other name is used or fails.
    #[arg(long, global = true, default_value = "auto", value_name = "ENGINE")]
    pub engine: EngineKind,
    /// Write what the store reports to standard error, from this level on: error, warn, info, debug or trace.
    /// Never shows keys or values.
    #[arg(long, global = true, value_name = "FILTER", value_parser = parse_filter)]
    pub log: Option<LogFilter>,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a chat workload on a temporary store, kill it, restart it, and check every byte. Needs
    /// neither a device nor arguments.
    Demo(DemoArgs),
    /// Make an empty store on a device or in a file. The file is created if it does not exist.
    Format(FormatArgs),
    /// Show a store's layout, its content, and how its last session ended. Never writes to it.
    Info(InfoArgs),
    /// Show what a path offers: each engine, usable or why not, each limit with its source, and what to
    /// change for more speed. Never writes and takes no lock. With --engine: that engine only.
    Probe(ProbeArgs),
    /// Check everything that recovery reads, and every live slot. Never writes to the store, except
    /// with --repair. Exit code 4 if the store is damaged, 8 if it is unusable.
    Fsck(FsckArgs),
    /// Show any structure of a store field by field, sound or not. Never writes to it.
    Inspect(InspectArgs),
    /// Put one value and make it durable.
    Put(PutArgs),
    /// Get one value. Exit code 2 if the key is not in the store.
    Get(GetArgs),
    /// Remove keys. Exit code 0 even if they are not in the store.
    Rm(RmArgs),
    /// List keys, value lengths and slots. Never writes to the store.
    Ls(LsArgs),
    /// Show the counters of a store that a process has open. Never writes to it.
    Stats(StatsArgs),
    /// Show the rates, latencies and fill of a store that a process has open, as they change. Never
    /// writes to it.
    Top(TopArgs),
    /// Verify every value once and drop damaged entries: through the process that has the store open,
    /// else by itself. Exit code 4 if any was damaged or could not be read.
    Scrub(ScrubArgs),
    /// Drop every entry of a store that is not open.
    Clear(ClearArgs),
    /// Replay a trace of KV-cache requests and check every byte that the store returns.
    Replay(ReplayArgs),
    /// Show how much of a trace eviction policies keep at several capacities, without a store.
    Simulate(SimulateArgs),
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

impl Command {
    /// The command's name on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Command::Demo(_) => "demo",
            Command::Format(_) => "format",
            Command::Info(_) => "info",
            Command::Probe(_) => "probe",
            Command::Fsck(_) => "fsck",
            Command::Inspect(_) => "inspect",
            Command::Put(_) => "put",
            Command::Get(_) => "get",
            Command::Rm(_) => "rm",
            Command::Ls(_) => "ls",
            Command::Stats(_) => "stats",
            Command::Top(_) => "top",
            Command::Scrub(_) => "scrub",
            Command::Clear(_) => "clear",
            Command::Replay(_) => "replay",
            Command::Simulate(_) => "simulate",
            Command::Bench(_) => "bench",
            Command::RecoverBench(_) => "recover-bench",
            Command::DemoChild(_) => "demo-child",
            Command::RecoverProbe(_) => "recover-probe",
            Command::RecoverChurn(_) => "recover-churn",
        }
    }
}

/// Arguments of `rb demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The folder in which to make the temporary folder, which takes about 1 GiB. Default: the system's
    /// folder for temporary files.
    #[arg(long, value_name = "FOLDER", value_parser = path_parser())]
    pub dir: Option<PathBuf>,
    /// Turns after the restart.
    #[arg(long, hide = true, default_value_t = 3000)]
    pub turns: u64,
}

/// Arguments of the process that `rb demo` kills.
#[derive(Debug, Args)]
pub struct DemoChildArgs {
    /// The store.
    #[arg(long, value_parser = path_parser())]
    pub store: PathBuf,
}

/// Arguments of `rb info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
}

/// Arguments of `rb probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// A file, a device node or a vhost-user socket.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
}

/// Arguments of `rb format`.
#[derive(Debug, Args)]
#[command(after_help = SIZES)]
pub struct FormatArgs {
    /// The device, or the file to make or use.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// Slot classes: the largest value that a slot holds, and the class's share of the space in percent.
    /// Classes without a share divide the rest evenly. A value larger than the largest slot takes several.
    #[arg(long, default_value = "1MiB", allow_negative_numbers = true, value_delimiter = ',', value_parser = parse_class, value_name = "SIZE[:SHARE%]")]
    pub slot_bytes: Vec<ClassRequest>,
    /// Size of the file to make or grow; on a device, how much of it to use. A new or empty file needs
    /// --size or --slots.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_size)]
    pub size: Option<u64>,
    /// Number of slots, for one class without a share. A file is made as large as they need.
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        conflicts_with = "size", value_parser = parse_number::<u64>)]
    pub slots: Option<u64>,
    /// Agree that everything in an existing file or on a device is destroyed.
    #[arg(long)]
    pub yes: bool,
    /// With --yes: destroy even a file system, a partition table or another foreign signature.
    #[arg(long)]
    pub force: bool,
    /// Length of the longest key in bytes, 1 to 1024.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 512,
        value_name = "N", value_parser = parse_number::<u32>)]
    pub key_bytes: u32,
    /// Length of the longest metadata in bytes, 0 to 256.
    #[arg(
        long,
        allow_negative_numbers = true,
        default_value_t = 0,
        value_name = "N", value_parser = parse_number::<u32>)]
    pub metadata_bytes: u32,
    /// Size of the delta log. Default: chosen from the number of slots.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_size, value_name = "SIZE")]
    pub log_size: Option<u64>,
    /// A label for the content, at most 256 bytes: text, or any bytes as hex:00ff. A program can require it
    /// when it opens the store.
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Do not allocate the blocks of a file's slots. Puts then fail if the file system becomes full. The
    /// metadata is allocated anyway.
    #[arg(long)]
    pub sparse: bool,
    /// Discard all slots on the device, so that a drive moves less data. A file gives their blocks back, as
    /// with --sparse.
    #[arg(long)]
    pub discard: bool,
}

/// Arguments of `rb fsck`.
#[derive(Debug, Args)]
#[command(after_help = FSCK)]
pub struct FsckArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// Read the value of every live entry as well, not only its header.
    #[arg(long)]
    pub deep: bool,
    /// Repair a damaged store: write metadata again that has another copy, drop entries that fail
    /// verification, rebuild lost metadata from slot headers (a removed key may return). Asks first.
    #[arg(long)]
    pub repair: bool,
    /// Repair without asking.
    #[arg(long, requires = "repair")]
    pub yes: bool,
    /// Without --repair: check a store that another process has open for writing. The store changes
    /// during the check, so findings may be false. With --repair: write over foreign data on the
    /// device, and over a superblock copy in a state that no crash leaves.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `rb inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// The structure. Default: all except slots.
    #[arg(value_enum)]
    pub structure: Option<Structure>,
    /// Only one of the two copies.
    #[arg(long, value_enum)]
    pub copy: Option<Which>,
    /// One block of the log with its records, by its sequence. Default: one line for each block since
    /// the newest base.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = parse_number::<u64>)]
    pub block: Option<u64>,
    /// The slot with this number.
    #[arg(
        long,
        allow_negative_numbers = true,
        value_name = "N",
        conflicts_with = "key", value_parser = parse_number::<u32>)]
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
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// The key: text, or bytes as hex:00ff….
    pub key: String,
    /// The file with the value; - reads standard input.
    #[arg(value_parser = path_parser())]
    pub file: PathBuf,
    /// Keep the value that the key already has, if it has one.
    #[arg(long)]
    pub keep: bool,
    /// Metadata to store with the value.
    #[arg(long, default_value = "", value_name = "STRING")]
    pub metadata: String,
    /// Write to a store that lost metadata. Its content becomes what the headers of its slots show;
    /// removed keys may return.
    #[arg(long)]
    pub accept_lost_metadata: bool,
    /// Write to the store although the device carries foreign data: a partition table, a file system,
    /// or unknown bytes where the store writes nothing. The store writes to its own places only.
    #[arg(long)]
    pub force: bool,
    /// Placement ids.
    #[command(flatten)]
    pub placement: PlacementArgs,
}

/// Arguments of `rb get`.
#[derive(Debug, Args)]
#[command(after_help = CODES)]
pub struct GetArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// The key: text, or bytes as hex:00ff….
    pub key: String,
    /// Write the value to this file instead of standard output. A miss leaves the file unchanged. A value
    /// replaces it, with mode 0600, after all of it was written.
    #[arg(short, long, value_name = "FILE", value_parser = path_parser())]
    pub output: Option<PathBuf>,
    /// Agree that the value overwrites what is on a block device given with -o.
    #[arg(long, requires = "output")]
    pub yes: bool,
    /// With --yes: overwrite even a file system, a partition table or another foreign signature.
    #[arg(long, requires = "output")]
    pub force: bool,
}

/// Arguments of `rb rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// The keys: text, or bytes as hex:00ff….
    #[arg(required = true)]
    pub keys: Vec<String>,
    /// Write to a store that lost metadata. Its content becomes what the headers of its slots show;
    /// removed keys may return.
    #[arg(long)]
    pub accept_lost_metadata: bool,
    /// Write to the store although the device carries foreign data: a partition table, a file system,
    /// or unknown bytes where the store writes nothing. The store writes to its own places only.
    #[arg(long)]
    pub force: bool,
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

    /// The JSON line names its command as the user wrote it.
    #[test]
    fn commands_have_the_names_that_the_parser_gives_them() {
        let cli = Cli::try_parse_from(["rb", "recover-bench", "--store", "s", "--entries", "9"]);
        let name = cli.expect("it parses").command.name();
        assert!(Cli::command().find_subcommand(name).is_some());
        assert_eq!(name, "recover-bench");
    }
}
