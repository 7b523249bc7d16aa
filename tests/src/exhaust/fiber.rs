//! Operations as coroutines: one thread runs all operations of an execution, and the search resumes one until it stops
//! at its next place.
//!
//! The baton of [`schedule`](crate::schedule) gives each operation a thread; a handover then costs a wake-up, which is
//! too much for millions of steps. Nothing else differs: where an operation stops it holds no lock except those held
//! over I/O, and those it only tries to take.

use std::panic::{AssertUnwindSafe, catch_unwind};

use generator::{Generator, Gn};

use crate::schedule::Place;

/// Words of 8 bytes in a stack.
const STACK: usize = 0x1_0000;

/// Reason why an operation gave control back.
enum Stop {
    At(Place),
    Ended(Result<(), String>),
}

/// Stops the operation that runs in the calling thread, until it is resumed.
#[expect(
    deprecated,
    reason = "the recommended form wants its scope passed down, which would have to go through the store"
)]
pub(super) fn stop(place: Place) {
    generator::yield_with(Stop::At(place));
}

/// Returns whether the caller is an operation that can stop.
pub(super) fn is_inside() -> bool {
    generator::is_generator()
}

/// Position of a resumed operation.
pub(super) enum Stood {
    At(Place),
    Ended,
    /// It panicked, with this message.
    Panicked(String),
}

/// An operation that has begun.
pub(super) struct Fiber(Generator<'static, (), Stop>);

impl Fiber {
    pub(super) fn resume(&mut self) -> Stood {
        match self.0.resume() {
            Some(Stop::At(place)) => Stood::At(place),
            Some(Stop::Ended(Ok(()))) => Stood::Ended,
            Some(Stop::Ended(Err(words))) => Stood::Panicked(words),
            None => Stood::Panicked("it was resumed after its end".into()),
        }
    }

    /// Abandons it where it stands, with everything it holds: dropping it would resume it.
    pub(super) fn abandon(self) {
        std::mem::forget(self);
    }
}

/// Reusable stacks.
#[derive(Default)]
pub(super) struct Stacks(Vec<Generator<'static, (), Stop>>);

impl Stacks {
    /// Creates an operation that does `work`; it begins when it is resumed.
    pub(super) fn fiber(&mut self, work: impl FnOnce() + Send + 'static) -> Fiber {
        let body = move || {
            let ended = catch_unwind(AssertUnwindSafe(work));
            Stop::Ended(ended.map_err(|why| crate::schedule::words(why.as_ref())))
        };
        match self.0.pop() {
            Some(mut used) => {
                used.init_code(body);
                Fiber(used)
            }
            None => Fiber(Gn::new_opt(STACK, body)),
        }
    }

    /// Takes back the stack of an operation that has ended.
    pub(super) fn give_back(&mut self, fiber: Fiber) {
        self.0.push(fiber.0);
    }
}
