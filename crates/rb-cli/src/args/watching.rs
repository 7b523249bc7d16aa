//! Arguments of the commands that look after a store: `stats`, `top`, `scrub`, `clear` and `ls`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::shared::{SIZES, parse_interval, path_parser};
use crate::size::parse_size;

/// Arguments of `rb stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// Show them again and again, until interrupted.
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two looks, 0.1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    pub interval: Duration,
}

/// Arguments of `rb top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// Print the figures of one interval, and end. --json does the same.
    #[arg(long)]
    pub once: bool,
    /// Seconds between two looks, 0.1 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = parse_interval)]
    pub interval: Duration,
}

/// Arguments of `rb scrub`.
#[derive(Debug, Args)]
#[command(after_help = SIZES)]
pub struct ScrubArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// Limit of the bytes read in a second. Default: none.
    #[arg(long, allow_negative_numbers = true, value_parser = parse_size, value_name = "SIZE")]
    pub rate: Option<u64>,
    /// If a process has the store open: start the scrub there, and do not wait for its end.
    #[arg(long)]
    pub start: bool,
    /// Write to a store that lost metadata. Its content becomes what the headers of its slots show;
    /// removed keys may return.
    #[arg(long)]
    pub accept_lost_metadata: bool,
    /// Write to the store although the device carries foreign data: a partition table, a file system,
    /// or unknown bytes where the store writes nothing. The store writes to its own places only.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `rb clear`.
#[derive(Debug, Args)]
pub struct ClearArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// Agree that every entry is dropped.
    #[arg(long)]
    pub yes: bool,
    /// Write to the store although the device carries foreign data: a partition table, a file system,
    /// or unknown bytes where the store writes nothing. The store writes to its own places only.
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `rb ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The store.
    #[arg(value_parser = path_parser())]
    pub path: PathBuf,
    /// List only keys that start with this: text, or bytes as hex:00ff….
    #[arg(long, default_value = "")]
    pub prefix: String,
    /// The order of the list.
    #[arg(long, value_enum, default_value = "key", value_name = "ORDER")]
    pub order: LsOrder,
    /// Also show slots, age, the uses of other entries since the last use, and what goes next.
    #[arg(short, long)]
    pub long: bool,
}

/// The order of `rb ls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LsOrder {
    /// By key.
    Key,
    /// By the time of the put, the oldest first.
    Age,
    /// By the time of the last use, the least recently used first: the entry that is evicted next.
    Use,
}
