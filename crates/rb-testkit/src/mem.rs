//! A device in memory and the engine over it.

mod crash;
mod device;
mod engine;
mod faults;
mod pages;
mod rates;
mod state;

pub use crash::{CrashImage, CrashPoints, Kept, MemWrite, Recorded};
pub use device::{MemCounts, MemDevice, MemOp, Moment};
pub use engine::MemEngine;
pub use rates::FaultRates;
