//! Harnesses that try to break the store: the long forms of the tests in `tests/it`, shared by them and by the commands
//! of `cargo xtask`. The README's example is compiled here.
#![cfg_attr(doctest, doc = include_str!("../../README.md"))]

pub mod crash;
pub mod device;
pub mod exhaust;
pub mod log_order;
mod marked;
pub mod race;
pub mod schedule;
pub mod tally;
