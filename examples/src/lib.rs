//! Complete programs that use raw-block, one in each file of `src/bin`. Each prints what it shows and asserts it.
//!
//! | program | what it shows |
//! |---|---|
//! | `plain_cache` | batches, prefixes, metadata, pins, eviction, a restart |
//! | `tokio_service` | a TCP service on tokio over the async operations, with a graceful shutdown |
//! | `index_only_cache` | the index without a store, for values in RAM, with a custom eviction policy |
//! | `own_engine` | a custom I/O engine, the conformance suite, and a store on that engine |
//! | `metrics_exporter` | a store under load, with its metrics for Prometheus over HTTP |
//!
//! `cargo run -p rb-examples --bin plain_cache` runs one, `cargo test -p rb-examples` all.

/// Compiles the example of the workspace's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
