//! The program `rb`: format, inspect, use and measure raw-block stores.
//!
//! This library holds all of the program except `main`, so that its parts can be tested: the parsing of sizes
//! and keys, the deterministic payload that `rb replay` and `rb demo` check, and one module for each
//! command. It is **not** an interface to stores: programs use `rb-core`.
//!
//! ```
//! use rb_cli::payload::{fill, is_payload};
//! use rb_cli::size::parse_size;
//!
//! let mut block = vec![0; usize::try_from(parse_size("64KiB")?)?];
//! fill(7, &mut block);
//! assert!(is_payload(7, &block));
//! assert!(!is_payload(8, &block));
//! assert!(parse_size("64 parsecs").is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod args;
pub mod failure;
pub mod key;
pub mod log;
pub mod output;
pub mod payload;
pub mod size;
mod terminal;

mod bench;
mod child;
mod clear;
mod demo;
mod entries;
mod format;
mod fsck;
mod get;
mod info;
mod inspect;
mod open;
mod outcome;
mod page;
mod probe;
mod progress;
mod put;
mod rates;
mod recover_bench;
mod replay;
mod run;
mod scrub;
mod series;
mod simulate;
mod target;
mod trace;
mod version;
mod warnings;
mod watch;

pub use run::run;
