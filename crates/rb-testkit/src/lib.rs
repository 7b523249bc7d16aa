//! Test support for raw-block: a device in memory with faults, a suite that every engine passes,
//! and values that can be verified at memory speed.
//!
//! * [`MemDevice`] and [`MemEngine`]: an engine without threads or timing. Its device has a
//!   volatile cache, so a test can examine the state after a crash, and injects scripted faults.
//! * [`conformance`]: checks the contract of [`rb_io::Engine`] and [`rb_io::Queue`] on any engine.
//!   Authors of other engines run it too.
//! * [`DriveEngine`]: a drive in memory with limited speed, so that requests wait for each other.
//! * [`Flash`]: a model of flash, for the write amplification of a drive with placement handles.
//! * [`StallingFile`]: a file in the real kernel whose requests complete only when the test
//!   releases them.
//! * [`StorageDaemon`]: a disk behind a vhost-user socket, if QEMU's server is installed.
//! * [`LoopDevice`]: a real block device of the kernel.
//! * [`values`]: payloads generated from a seed. [`skip`]: reports tests that a machine cannot run.
//!
//! Not for production use: a separate crate, so that no production crate needs a feature for tests.
//!
//! ```
//! use rb_io::{Arena, Engine, Issuer, Lane, QueueOptions, Request};
//! use rb_testkit::{MemDevice, MemEngine, values};
//!
//! let device = MemDevice::new(1 << 20);
//! let engine = MemEngine::new(device.clone());
//! let options = QueueOptions::default();
//! let mut lane = Lane::new(engine.queue(&options)?, engine.limits());
//!
//! let arena = Arena::allocate(64 << 10)?;
//! let mut buffer = arena.take(8192).ok_or("the arena is empty")?;
//! values::fill(7, &mut buffer);
//! let done = lane.run(vec![Request::write(4096, buffer, 0, 8192)]);
//! assert!(done[0].result.is_ok());
//!
//! // Written, not flushed: a crash may lose it.
//! assert_eq!(&device.crash_image()[4096..12288], &[0; 8192]);
//! lane.run(vec![Request::flush()]);
//! assert!(values::matches(7, &device.crash_image()[4096..12288]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod colliding;
pub mod conformance;
mod drive;
mod flash;
mod loops;
mod mem;
pub mod skip;
mod stall;
mod storage_daemon;
pub mod values;

pub use drive::{DriveEngine, DriveSpeed, DriveTimes, Use};
pub use flash::{Flash, Shape, Written};
pub use loops::LoopDevice;
pub use mem::{
    CrashImage, CrashPoints, FaultRates, Kept, MemCounts, MemDevice, MemEngine, MemOp, MemWrite,
    Moment, Recorded,
};
pub use stall::StallingFile;
pub use storage_daemon::StorageDaemon;

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
