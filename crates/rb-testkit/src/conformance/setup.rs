//! Queues, lanes and memory for the checks.

use rb_io::{Arena, Buffer, Engine, Issuer, Lane, Queue, QueueOptions, Request};

pub(super) fn options(depth: u32) -> QueueOptions {
    QueueOptions {
        depth,
        arenas: Vec::new(),
        issuer: Issuer::Any,
        inline: true,
        linger: std::time::Duration::ZERO,
    }
}

#[track_caller]
pub(super) fn queue(engine: &dyn Engine, depth: u32) -> Box<dyn Queue> {
    engine.queue(&options(depth)).expect("the queue opens")
}

#[track_caller]
pub(super) fn lane(engine: &dyn Engine, depth: u32) -> Lane {
    Lane::new(queue(engine, depth), engine.limits())
}

#[track_caller]
pub(super) fn arena(bytes: usize) -> Arena {
    Arena::allocate(bytes).expect("memory for an arena")
}

#[track_caller]
pub(super) fn buffer(arena: &Arena, bytes: usize) -> Buffer {
    arena.take(bytes).expect("room in the arena")
}

/// Runs one request and returns its buffer.
#[track_caller]
pub(super) fn run_one(lane: &mut Lane, request: Request) -> Option<Buffer> {
    let mut done = lane.run(vec![request]);
    let done = done.pop().expect("a completion");
    done.result.expect("the request succeeds");
    done.buf
}

pub(super) fn block(engine: &dyn Engine) -> usize {
    engine.limits().block.value as usize
}

/// Returns a size in bytes that is whole blocks and whole pages.
pub(super) fn unit(engine: &dyn Engine) -> usize {
    block(engine).max(4096)
}
