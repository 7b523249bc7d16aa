//! A device in memory and the engine over it.

mod crash;
mod device;
mod engine;
mod execute;
mod faults;
mod operation;
mod orders;
mod pages;
mod rates;
mod record;
mod state;

pub use crash::{CrashImage, CrashPoints};
pub use engine::MemEngine;
pub use operation::{MemCounts, MemOp, Moment};
pub use rates::FaultRates;
pub use record::{Kept, MemWrite, Recorded};
pub use state::MemDevice;
