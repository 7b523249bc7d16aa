//! Arguments of `simulate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::capacity::Capacity;
use super::hint_rates::HintRates;
use super::shared::{parse_number, parse_positive, path_parser};

/// Arguments of `rb simulate`.
#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// JSON lines with `hash_ids` for each request (the format of the Mooncake traces), as they are or
    /// compressed with zstd.
    #[arg(value_parser = path_parser())]
    pub trace: PathBuf,
    /// Capacities: numbers of slots, or percentages of the distinct blocks of the trace.
    #[arg(long, value_delimiter = ',', default_value = "2%,5%,10%,25%,50%", value_name = "LIST", value_parser = Capacity::parse)]
    pub capacity: Vec<Capacity>,
    /// Eviction policies. Belady's bound is always shown: what a policy that knows the future would have.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "lru",
        value_name = "LIST"
    )]
    pub policy: Vec<PolicyName>,
    /// Leave out the blocks that the `input_length` of a request does not fill, of so many tokens each.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = parse_positive::<u64>)]
    pub block_tokens: Option<u64>,
    /// Store what a request missed up to 100 ms after its lookup, in another order than that of the
    /// requests, as inference engines do. Without it, what a request missed is stored before the next
    /// request is looked up.
    #[arg(long)]
    pub apart: bool,
    /// Requests say that their chain has ended: R percent of those whose new blocks no later request reads,
    /// and F percent of the others, which are wrong. A policy may use it; `learned` does.
    #[arg(long, value_name = "R/F", value_parser = HintRates::parse)]
    pub hints: Option<HintRates>,
    /// Write at most so many blocks in any 24 hours of the trace's time, as a store with a write budget does.
    #[arg(long, allow_negative_numbers = true, value_name = "BLOCKS", value_parser = parse_positive::<u64>)]
    pub budget: Option<u64>,
    /// Index shards, a power of two. With 1, eviction is exact.
    #[arg(long, allow_negative_numbers = true, default_value_t = 1, value_name = "N", value_parser = parse_number::<u32>)]
    pub shards: u32,
    /// Stop after this many requests.
    #[arg(long, allow_negative_numbers = true, value_name = "N", value_parser = parse_number::<u64>)]
    pub requests: Option<u64>,
    /// Seed of the times at which requests are stored, of the hints, and of the sample of keys that `learned`
    /// follows: each opening of a store draws another, too.
    #[arg(long, allow_negative_numbers = true, default_value_t = 1, value_name = "N", value_parser = parse_number::<u64>)]
    pub seed: u64,
    /// Also write a page with charts of hits and writes by capacity to this file. It replaces the file
    /// after all of it was written. It has no script and loads nothing.
    #[arg(long, value_name = "FILE", value_parser = path_parser())]
    pub html: Option<PathBuf>,
}

/// An eviction policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyName {
    /// Least recently used: the store's default.
    Lru,
    /// Learns which blocks are read again and when, and what is worth a write.
    Learned,
    /// First in, first out.
    Fifo,
    /// S3-FIFO: a small queue for what is new, a main one for what was used there.
    S3fifo,
    /// SIEVE: a queue whose hand spares what was visited.
    Sieve,
    /// ARC: recency and frequency, balanced by hits in two ghost lists.
    Arc,
}

impl PolicyName {
    /// The policy's name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            PolicyName::Lru => "lru",
            PolicyName::Learned => "learned",
            PolicyName::Fifo => "fifo",
            PolicyName::S3fifo => "s3fifo",
            PolicyName::Sieve => "sieve",
            PolicyName::Arc => "arc",
        }
    }
}
