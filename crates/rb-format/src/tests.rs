//! Tests across structures. Tests of a single structure are in its module.

mod damage;
mod doc_tables;
mod golden;
mod round_trips;
pub(crate) mod samples;
mod sizing;
