//! Whole-store tests: one binary, one module per concern.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod api;
mod bad_input;
mod churn;
mod counts;
mod crash;
mod crash_wide;
mod damage;
mod durable;
mod evict;
mod faults;
mod recover;
mod review;
mod support;
