//! An async put. The call itself does step 1 of `put.rs` and copies payloads out of the caller's
//! memory.
//!
//! ```text
//! wait for buffers, if none are free  the worker `buffers`
//! steps 2 and 3                       the call, if nothing has to be waited for and little to be checksummed;
//!                                    else the worker `writes`
//! step 4                              the driver
//! step 5                              the thread whose commit makes the records durable
//! ```

use std::sync::Arc;

use rb_io::{Buffer, Patience};

use crate::core::gate::Pass;
use crate::core::inner::Inner;
use crate::core::waits::Waits;
use crate::error::Error;
use crate::operation::{Completer, Operation, Wakes, operation};
use crate::ops::batch::run;
use crate::ops::driver::Driver;
use crate::ops::put::not_durable;
use crate::ops::put_batch::{PutAnswers, PutBatch};
use crate::ops::put_plan::{
    Payload, Plan, PlannedPut, Put, PutResult, parts, plan, settle, take_buffers,
};
use crate::ops::worker::AsyncThreads;
use crate::options::{Durability, PutOptions};

/// Starts a put of many values. Payloads in the caller's memory are copied before this returns,
/// even if no buffers are free and a worker must wait for them. A batch that does not fit in one
/// part is refused.
pub(crate) fn put_many_async<T: Send + 'static>(
    inner: &Arc<Inner>,
    threads: &AsyncThreads,
    puts: Vec<Put<'_>>,
    options: PutOptions,
    shape: fn(Vec<PutResult>) -> T,
) -> Operation<T> {
    let count = puts.len();
    let (operation, completer) = operation(move |error| shape(vec![Err(error); count]));
    let (pass, writer) = match inner.enter_writing() {
        Ok(entered) => entered,
        Err(error) => {
            completer.complete(shape(vec![Err(error); count]));
            return operation;
        }
    };
    let Plan {
        planned,
        answers,
        followers,
    } = plan(inner, puts, options); // 1
    let reply = Reply {
        answers,
        followers,
        pass,
        completer,
        shape,
    };
    let part = match only_part(inner, parts(inner, writer, planned)) {
        Ok(part) if part.is_empty() => {
            reply.give(&mut Wakes::default());
            return operation;
        }
        Ok(part) => part,
        Err(error) => {
            reply.refuse(error);
            return operation;
        }
    };
    go_on(inner, threads, part, options, reply);
    operation
}

/// Does as much as possible without waiting and hands the rest to a worker.
fn go_on<T: Send + 'static>(
    inner: &Arc<Inner>,
    threads: &AsyncThreads,
    part: Vec<PlannedPut<'_>>,
    options: PutOptions,
    reply: Reply<T>,
) {
    let writer = inner.writer.as_ref().expect("puts have a writer");
    let driver = &threads.driver;
    let now = take_buffers(inner, &part, &mut Patience::none());
    if inner.is_manual() {
        let part = now.map(|buffers| own(inner, part, buffers));
        return write(inner, driver, &mut Waits::of(inner), part, options, reply);
    }
    // With buffers, prepare the batch in this thread if nothing blocks; without, copy the payloads
    // to the heap until there are some.
    let (part, queued) = match now {
        Ok(buffers) => {
            let part = own(inner, part, buffers);
            match PutBatch::prepare_now(inner, writer, part, options) {
                Ok(batch) => return start(inner, driver, batch, options, reply),
                Err(part) => (part, None),
            }
        }
        Err(_) => match threads.queue_bytes(copied(&part), inner.arena.bytes()) {
            Ok(queued) => (own(inner, part, Vec::new()), Some(queued)),
            Err(error) => return reply.refuse(error),
        },
    };
    // The first worker takes the buffers, the second writes: waiting for buffers must not delay
    // puts that have theirs.
    let (waits, store) = (Waits::of(inner), Arc::clone(inner));
    let (inner, driver) = (Arc::clone(inner), Arc::clone(driver));
    let writes = Arc::clone(&threads.writes);
    let write = move |waits, part| {
        writes.run(waits, move |waits, outcome| {
            let part = outcome.and(part);
            write(&inner, &driver, waits, part, options, reply);
        });
    };
    match queued {
        None => write(waits, Ok(part)),
        Some(queued) => threads.buffers.run(waits, move |waits, outcome| {
            let taken = outcome.and_then(|()| take_buffers(&store, &part, &mut waits.resources));
            let part = taken.map(|buffers| own(&store, part, buffers));
            // The copies are in buffers now and no longer count as queued.
            drop(queued);
            write(*waits, part);
        }),
    }
}

/// Bytes to copy from the caller's memory.
fn copied(part: &[PlannedPut<'_>]) -> usize {
    let bytes = part.iter().map(|put| match put.payload {
        Payload::Bytes(bytes) => bytes.len(),
        Payload::Owned(_) | Payload::Buffer(_) | Payload::Loan(_) => 0,
    });
    bytes.sum()
}

/// Copies payloads out of the caller's memory: into `buffers` if there are any, else to the heap.
fn own(inner: &Inner, part: Vec<PlannedPut<'_>>, buffers: Vec<Buffer>) -> Vec<PlannedPut<'static>> {
    let mut buffers = buffers.into_iter();
    let owned = part.into_iter().map(|planned| {
        let buffer = planned.needs_buffer().then(|| buffers.next()).flatten();
        planned.into_owned(inner, buffer)
    });
    owned.collect()
}

/// Steps 2 to 5 of an async put.
fn write<T: Send + 'static>(
    inner: &Arc<Inner>,
    driver: &Driver,
    waits: &mut Waits,
    part: Result<Vec<PlannedPut<'static>>, Error>,
    options: PutOptions,
    reply: Reply<T>,
) {
    let writer = inner.writer.as_ref().expect("puts have a writer");
    let prepared = part.and_then(|part| PutBatch::prepare(inner, writer, part, options, waits)); // 2, 3
    match prepared {
        Ok(batch) if inner.is_manual() => {
            let done = run(inner, batch, waits); // 4
            reply.written(inner, options, done, &mut Wakes::default()); // 5
        }
        Ok(batch) => start(inner, driver, batch, options, reply),
        Err(error) => reply.refuse(error),
    }
}

/// Steps 4 and 5 of an async put.
fn start<T: Send + 'static>(
    inner: &Arc<Inner>,
    driver: &Driver,
    batch: PutBatch,
    options: PutOptions,
    reply: Reply<T>,
) {
    let store = Arc::clone(inner);
    driver.start(inner, batch, move |done, wakes| {
        reply.written(&store, options, done, wakes);
    });
}

/// Returns the only part of a batch.
///
/// # Errors
/// `BatchTooLarge` or `BatchTooLong`: the batch needs several parts.
fn only_part<'a>(
    inner: &Inner,
    mut parts: Vec<Vec<PlannedPut<'a>>>,
) -> Result<Vec<PlannedPut<'a>>, Error> {
    let part = parts.pop().unwrap_or_default();
    if parts.is_empty() {
        return Ok(part);
    }
    let all = || parts.iter().flatten().chain(&part);
    let needed = all().map(PlannedPut::stride).sum();
    let limit = inner.arena.bytes() / 2;
    let (keys, together) = (all().count(), parts[0].len());
    match needed > limit {
        true => Err(Error::BatchTooLarge { needed, limit }),
        false => Err(Error::BatchTooLong {
            keys,
            limit: together,
        }),
    }
}

/// The results of an async put and the way to deliver them.
struct Reply<T: Send + 'static> {
    answers: Vec<PutResult>,
    followers: Vec<(usize, usize)>,
    pass: Pass,
    completer: Completer<T>,
    shape: fn(Vec<PutResult>) -> T,
}

impl<T: Send + 'static> Reply<T> {
    /// Records the results of the writes, then does step 5 if the durability requires it.
    fn written(
        mut self,
        inner: &Arc<Inner>,
        options: PutOptions,
        done: PutAnswers,
        wakes: &mut Wakes,
    ) {
        for (at, answer) in done.answers {
            self.answers[at] = answer;
        }
        match inner.durability(options) {
            Durability::EachBatch => self.when_durable(inner, done.ticket),
            Durability::Interval => self.give(wakes),
        }
    }

    /// Fails every put that is still pending; none was started.
    fn refuse(mut self, error: Error) {
        not_durable(&mut self.answers, Err(error));
        self.give(&mut Wakes::default());
    }

    /// Step 5 without blocking the driver: the thread whose commit makes the records durable
    /// delivers the results.
    fn when_durable(mut self, inner: &Arc<Inner>, ticket: u64) {
        let writer = inner.writer.as_ref().expect("puts have a writer");
        inner.when_durable(writer, ticket, move |outcome| {
            not_durable(&mut self.answers, outcome);
            self.give(&mut Wakes::default());
        });
    }

    fn give(mut self, wakes: &mut Wakes) {
        settle(&mut self.answers, &self.followers);
        // End the operation before its result is delivered: the woken caller may close the store.
        drop(self.pass);
        self.completer.answer((self.shape)(self.answers), wakes);
    }
}
