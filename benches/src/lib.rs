//! Benchmarks of raw-block.
