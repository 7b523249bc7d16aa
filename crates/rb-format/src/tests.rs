//! Tests that go across the structures. What concerns one structure only is tested beside it.

mod damage;
mod doc_tables;
mod golden;
mod round_trips;
pub(crate) mod samples;
