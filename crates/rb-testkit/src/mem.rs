//! A device in memory and the engine over it.

mod device;
mod engine;
mod faults;
mod pages;

pub use device::{MemCounts, MemDevice, MemOp};
pub use engine::MemEngine;
