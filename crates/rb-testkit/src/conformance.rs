//! Conformance suite: checks the contract of [`rb_io::Engine`] and [`rb_io::Queue`] on any engine.
//!
//! ```
//! use std::sync::Arc;
//! use rb_testkit::{MemDevice, MemEngine, conformance};
//!
//! conformance::run("memory", &|| Arc::new(MemEngine::new(MemDevice::new(16 << 20))));
//! ```
//!
//! An engine under test needs [`CAPACITY_MIN`] bytes of device, whose contents are overwritten.
//! `run` requests a new engine for each check, one at a time, and panics at the end with the names
//! of all checks that failed.
//!
//! # For the author of another engine
//!
//! Write a test that calls [`run`] with a closure that opens your engine, and run it over each kind
//! of device that the engine supports: small limits and large ones, blocks of 512 and of 4096
//! bytes. The checks are of four kinds. *Queues*: depth, tokens, buffers, threads, memory, drops in
//! flight, counters and the accuracy of the report. *Transfers*: alignment, sizes around every
//! limit, splitting, the edges, batches. *Waiting*: timeouts, wakes, and no CPU use while idle.
//! *Faults*: one part that fails, short transfers, transient errors, flushes that fail, and the
//! state after a crash.
//!
//! The last kind needs a device that can inject faults. If you have one, pass its control to
//! [`run_with_faults`]; checks that need an unsupported fault are left out and listed in [`Tally`].
//!
//! ```
//! use std::ops::Range;
//! use std::sync::Arc;
//! use rb_io::OpKind;
//! use rb_testkit::conformance::{self, Faults, Subject};
//! use rb_testkit::{MemDevice, MemEngine};
//!
//! #[derive(Debug)]
//! struct Bench(Arc<MemDevice>);
//!
//! impl Faults for Bench {
//!     fn fail_next(&self, op: OpKind, range: Range<u64>, errno: i32) -> bool {
//!         self.0.fail_next(op, range, errno);
//!         true
//!     }
//! }
//!
//! let tally = conformance::run_with_faults("my engine", &|| {
//!     let device = MemDevice::new(16 << 20);
//!     let engine = Arc::new(MemEngine::new(device.clone()));
//!     Subject { engine, faults: Some(Box::new(Bench(device))) }
//! });
//! // It can fail requests, and neither shorten them nor crash.
//! assert!(tally.left_out.contains(&"short transfers are completed"));
//! ```

mod faults;
mod loans;
mod queues;
mod ranges;
mod setup;
mod subject;
mod transfers;
mod waiting;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rb_io::Engine;

pub use subject::{Faults, Subject};

/// Smallest size in bytes of a device under test.
pub const CAPACITY_MIN: u64 = 16 << 20;

type Check = (&'static str, fn(&dyn Engine));
/// Returns false if the fault control does not support the required fault.
type FaultCheck = (&'static str, fn(&dyn Engine, &dyn Faults) -> bool);

/// The result of a run in which no check failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Number of checks that ran.
    pub passed: usize,
    /// Checks that need a fault that the device does not support.
    pub left_out: Vec<&'static str>,
}

/// The checks that need a device with fault injection.
const FAULT_CHECKS: &[FaultCheck] = &[
    (
        "a failing part fails its request alone",
        faults::one_request_fails,
    ),
    ("short transfers are completed", faults::short_transfers),
    ("a transfer without progress fails", faults::no_progress),
    (
        "errors that mean again are retried",
        faults::transient_errors,
    ),
    ("a failing flush is reported", faults::failing_flush),
    ("a flush covers what was complete", faults::flush_order),
];

/// Every check, in order of execution.
const CHECKS: &[Check] = &[
    ("limits make sense", queues::limits_make_sense),
    (
        "depths out of range are refused",
        queues::depths_out_of_range,
    ),
    (
        "tokens and buffers come back",
        queues::tokens_and_buffers_come_back,
    ),
    ("a full queue gives the part back", queues::full_queue),
    ("a part without memory fails", queues::part_without_memory),
    ("a part past the end moves less", queues::part_past_the_end),
    (
        "dropping a queue in flight keeps the memory",
        queues::drop_in_flight,
    ),
    ("a batch is one submission", queues::batch_is_one_submission),
    (
        "a queue moves between threads",
        queues::moves_between_threads,
    ),
    ("a one-thread queue works on its thread", queues::one_thread),
    ("queues work side by side", queues::side_by_side),
    (
        "registered and other buffers",
        queues::registered_and_other_buffers,
    ),
    ("sizes around every limit", transfers::sizes_around_limits),
    ("the edge of the device", transfers::capacity_edge),
    (
        "bad requests are never sent",
        transfers::bad_requests_are_never_sent,
    ),
    (
        "one bad request fails alone",
        transfers::one_bad_request_fails_alone,
    ),
    (
        "batches larger than the depth",
        transfers::larger_than_depth,
    ),
    ("flush and discard", transfers::flush_and_discard),
    ("lent memory", loans::shared_and_exclusive),
    ("checksums of a range", loans::checksums_of_a_range),
    ("memory at every alignment", ranges::memory_alignment),
    (
        "parts of a request are in flight together",
        ranges::parts_together,
    ),
    ("requests across the edge", ranges::across_the_edge),
    ("discards stay inside their range", ranges::discards),
    ("a flush among writes", ranges::flush_among_writes),
    (
        "random operations agree with a model",
        transfers::random_operations,
    ),
    (
        "started requests and a run share a lane",
        transfers::started_during_run,
    ),
    ("reap of nothing does not block", waiting::reap_of_nothing),
    ("submit starts without waiting", waiting::submit_then_reap),
    ("a timeout ends a wait", waiting::timeout_ends_wait),
    (
        "a wake ends a wait and is not lost",
        waiting::wake_ends_wait,
    ),
    ("a wake ends a wait of poll", waiting::wake_ends_poll),
    ("an idle wait uses no processor", waiting::idle_uses_no_cpu),
];

/// Runs the suite over engines made by `factory`, a new one for each check. Leaves out checks that
/// need faults.
///
/// # Panics
/// If any check fails, after all have run, with `name` and every failed check.
pub fn run(name: &str, factory: &dyn Fn() -> Arc<dyn Engine>) -> Tally {
    run_with_faults(name, &|| Subject {
        engine: factory(),
        faults: None,
    })
}

/// Runs the suite like [`run`], with control over the faults of the devices.
///
/// # Panics
/// Under the conditions of [`run`].
pub fn run_with_faults(name: &str, factory: &dyn Fn() -> Subject) -> Tally {
    let mut failed = Vec::new();
    let mut tally = Tally {
        passed: 0,
        left_out: Vec::new(),
    };
    let mut one = |title, check: &dyn Fn(&Subject) -> bool| {
        let subject = factory();
        let capacity = subject.engine.capacity_bytes();
        assert!(
            capacity >= CAPACITY_MIN,
            "{name}: the device has only {capacity} bytes"
        );
        match catch_unwind(AssertUnwindSafe(|| check(&subject))) {
            Ok(true) => tally.passed += 1,
            Ok(false) => tally.left_out.push(title),
            Err(why) => failed.push(format!("{title}: {}", message(why.as_ref()))),
        }
    };
    for (title, check) in CHECKS {
        one(title, &|subject| {
            check(&*subject.engine);
            true
        });
    }
    for (title, check) in FAULT_CHECKS {
        one(title, &|subject| match &subject.faults {
            Some(faults) => check(&*subject.engine, &**faults),
            None => false,
        });
    }
    assert!(
        failed.is_empty(),
        "engine {name} failed {} checks:\n{}",
        failed.len(),
        failed.join("\n")
    );
    tally
}

/// Returns what a check expected, from the message of its panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked without a message")
}
