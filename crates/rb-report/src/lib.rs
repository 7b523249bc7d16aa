//! Pages of figures for the measurements of raw-block.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod axis;
mod bars;
mod chart;
mod machine;
mod operation;
mod page;

pub use axis::Axis;
pub use bars::Spread;
pub use chart::{Chart, Line};
pub use machine::{date, machine, storage};
pub use operation::{Bar, Interval, Operation, Percentile, charts, latency_table};
pub use page::{Page, Section};
