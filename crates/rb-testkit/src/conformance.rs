//! What every engine promises, as checks that run over any of them.
//!
//! ```
//! use std::sync::Arc;
//! use rb_testkit::{MemDevice, MemEngine, conformance};
//!
//! conformance::run("memory", &|| Arc::new(MemEngine::new(MemDevice::new(16 << 20))));
//! ```
//!
//! An engine under test needs [`CAPACITY_MIN`] bytes of device, whose contents are overwritten.

mod queues;
mod transfers;
mod waiting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rb_io::{Arena, Buffer, Engine, Issuer, Lane, Queue, QueueOptions, Request};

/// Bytes that a device under test has at least.
pub const CAPACITY_MIN: u64 = 16 << 20;

type Check = (&'static str, fn(&dyn Engine));

/// Every check, in the order they run.
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
    (
        "random operations agree with a model",
        transfers::random_operations,
    ),
    (
        "started requests and a run share a lane",
        transfers::started_beside_run,
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

/// Runs the suite over engines made by `factory`, a new one for each check.
///
/// # Panics
/// If any check fails, after all have run, naming `name` and every failed check.
pub fn run(name: &str, factory: &dyn Fn() -> Arc<dyn Engine>) {
    let mut failed = Vec::new();
    for (title, check) in CHECKS {
        let engine = factory();
        let capacity = engine.capacity_bytes();
        assert!(
            capacity >= CAPACITY_MIN,
            "{name}: the device has only {capacity} bytes"
        );
        // The panic message was printed where it happened; the titles are summed up below.
        if catch_unwind(AssertUnwindSafe(|| check(&*engine))).is_err() {
            failed.push(*title);
        }
    }
    assert!(
        failed.is_empty(),
        "engine {name} failed {} checks: {failed:#?}",
        failed.len()
    );
}

fn options(depth: u32) -> QueueOptions {
    QueueOptions {
        depth,
        arenas: Vec::new(),
        issuer: Issuer::Any,
        inline: true,
        linger: std::time::Duration::ZERO,
    }
}

#[track_caller]
fn queue(engine: &dyn Engine, depth: u32) -> Box<dyn Queue> {
    engine.queue(&options(depth)).expect("the queue opens")
}

#[track_caller]
fn lane(engine: &dyn Engine, depth: u32) -> Lane {
    Lane::new(queue(engine, depth), engine.limits())
}

#[track_caller]
fn arena(bytes: usize) -> Arena {
    Arena::allocate(bytes).expect("memory for an arena")
}

#[track_caller]
fn buffer(arena: &Arena, bytes: usize) -> Buffer {
    arena.take(bytes).expect("room in the arena")
}

/// Runs one request and returns its buffer.
#[track_caller]
fn run_one(lane: &mut Lane, request: Request) -> Option<Buffer> {
    let mut done = lane.run(vec![request]);
    let done = done.pop().expect("a completion");
    done.result.expect("the request succeeds");
    done.buf
}

fn block(engine: &dyn Engine) -> usize {
    engine.limits().block.value as usize
}

/// Bytes that are whole blocks and whole pages.
fn unit(engine: &dyn Engine) -> usize {
    block(engine).max(4096)
}
