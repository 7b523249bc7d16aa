//! The async forms: the same steps as the blocking ones, with the waves driven by the driver thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::driver::{Finish, Job};
use crate::error::Error;
use crate::gate::Pass;
use crate::get::{Lookup, lease_all};
use crate::get_wave::GetWave;
use crate::inner::Inner;
use crate::lanes::Wave;
use crate::operation::{Completer, Operation, Wakes, operation};
use crate::options::{Durability, PutOptions};
use crate::put::{PutResult, not_durable};
use crate::put_plan::{Plan, Planned, Put, plan, settle, waves};
use crate::put_wave::PutWave;

/// The answer to an operation, given once: by its wave, or when that is late.
struct Reply<T: Send + 'static>(Arc<Mutex<Option<Open<T>>>>);

/// What an operation that is not answered yet holds.
type Open<T> = (Completer<T>, Pass);

impl<T: Send + 'static> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Reply(Arc::clone(&self.0))
    }
}

impl<T: Send + 'static> Reply<T> {
    fn new(completer: Completer<T>, pass: Pass) -> Reply<T> {
        Reply(Arc::new(Mutex::new(Some((completer, pass)))))
    }

    fn give(&self, answer: T, wakes: &mut Wakes) {
        let given = self.0.lock().take();
        if let Some((completer, pass)) = given {
            // The operation ends before it is answered: whoever is woken may close the store.
            drop(pass);
            completer.answer(answer, wakes);
        }
    }
}

impl<T: Send + 'static> Reply<Vec<Result<T, Error>>> {
    /// What the driver calls if the wave is late, or cannot be sent.
    fn when_failed(&self, count: usize) -> Box<dyn FnOnce(Error) + Send> {
        let reply = self.clone();
        Box::new(move |error| {
            let answers = (0..count).map(|_| Err(error.clone())).collect();
            reply.give(answers, &mut Wakes::default());
        })
    }
}

/// Starts looking up many keys.
pub(crate) fn get_many(inner: &Arc<Inner>, keys: &[&[u8]]) -> Operation<Vec<Lookup>> {
    let count = keys.len();
    let (operation, completer) =
        operation(move || (0..count).map(|_| Err(Error::Closed)).collect());
    let Ok(pass) = inner.enter() else {
        return operation;
    };
    let mut answers: Vec<Lookup> = (0..count).map(|_| Ok(None)).collect();
    let wave = lease_all(inner, keys, &mut answers);
    let getting = Getting {
        answers,
        reply: Reply::new(completer, pass),
    };
    let job = getting.job(wave, inner.busy_wait(), &mut Wakes::default());
    start(inner, job);
    operation
}

struct Getting {
    answers: Vec<Lookup>,
    reply: Reply<Vec<Lookup>>,
}

impl Getting {
    /// The wave as a job, or the answer if there is nothing to read or there are no buffers.
    fn job(mut self, mut wave: GetWave, wait: Duration, wakes: &mut Wakes) -> Option<Job> {
        let positions = wave.positions();
        let requests = wave.requests(wait);
        match requests {
            Ok(requests) if !requests.is_empty() => {
                let fail = self.reply.when_failed(self.answers.len());
                let finish: Finish = Box::new(move |completions, wakes| {
                    let done = wave.complete(completions);
                    if !done.dropped.is_empty() {
                        // An observer may be slow, and others' answers are there.
                        wakes.tell();
                    }
                    drop(done.dropped);
                    for (at, answer) in done.answers {
                        self.answers[at] = answer;
                    }
                    match done.again {
                        // The driver does not wait for buffers: everyone waits for the driver.
                        Some(again) => self.job(again, Duration::ZERO, wakes),
                        None => self.finish(wakes),
                    }
                });
                Some(Job {
                    requests,
                    sent: Arc::default(),
                    finish,
                    fail,
                })
            }
            Ok(_) => self.finish(wakes),
            Err(error) => {
                positions
                    .into_iter()
                    .for_each(|at| self.answers[at] = Err(error.clone()));
                self.finish(wakes)
            }
        }
    }

    fn finish(self, wakes: &mut Wakes) -> Option<Job> {
        self.reply.give(self.answers, wakes);
        None
    }
}

/// Starts putting many values. The values are copied or taken over before this returns. A batch that
/// does not fit one wave is refused: its later waves would have to keep the caller's memory.
pub(crate) fn put_many(
    inner: &Arc<Inner>,
    puts: Vec<Put<'_>>,
    options: PutOptions,
) -> Operation<Vec<PutResult>> {
    let count = puts.len();
    let (operation, completer) =
        operation(move || (0..count).map(|_| Err(Error::Closed)).collect());
    match prepare(inner, puts, options) {
        Err(error) => completer.complete(vec![Err(error); count]),
        Ok(Prepared {
            pass,
            answers,
            followers,
            wave,
        }) => {
            let inner = Arc::clone(inner);
            let reply = Reply::new(completer, pass);
            let putting = Putting {
                inner: Arc::clone(&inner),
                answers,
                followers,
                reply,
                options,
            };
            match wave {
                Some((wave, requests)) if requests.is_empty() => {
                    putting.acknowledge(wave.ticket(), &mut Wakes::default());
                }
                Some((wave, requests)) => start(&inner, Some(putting.job(wave, requests))),
                None => putting.finish(&mut Wakes::default()),
            }
        }
    }
    operation
}

struct Prepared {
    pass: Pass,
    answers: Vec<PutResult>,
    followers: Vec<(usize, usize)>,
    wave: Option<(PutWave, Vec<rb_io::Request>)>,
}

fn prepare(inner: &Arc<Inner>, puts: Vec<Put<'_>>, options: PutOptions) -> Result<Prepared, Error> {
    let (pass, writer) = inner.enter_writing()?;
    let Plan {
        planned,
        mut answers,
        followers,
    } = plan(inner, puts, options);
    let mut waves: Vec<Vec<Planned<'_>>> = waves(inner, writer, planned);
    if waves.len() > 1 {
        let needed = waves.iter().flatten().map(Planned::stride).sum();
        let limit = waves
            .last()
            .into_iter()
            .flatten()
            .map(Planned::stride)
            .sum();
        return Err(Error::BatchTooLarge { needed, limit });
    }
    let wave = match waves.pop() {
        Some(planned) => Some(PutWave::prepare(
            inner,
            writer,
            planned,
            options,
            &mut answers,
        )?),
        None => None,
    };
    Ok(Prepared {
        pass,
        answers,
        followers,
        wave,
    })
}

struct Putting {
    inner: Arc<Inner>,
    answers: Vec<PutResult>,
    followers: Vec<(usize, usize)>,
    reply: Reply<Vec<PutResult>>,
    options: PutOptions,
}

impl Putting {
    fn job(mut self, wave: PutWave, requests: Vec<rb_io::Request>) -> Job {
        let sent = wave.sent_flag();
        let fail = self.reply.when_failed(self.answers.len());
        let finish: Finish = Box::new(move |completions, wakes| {
            let done = wave.complete(completions);
            for (at, answer) in done.answers {
                self.answers[at] = answer;
            }
            self.acknowledge(done.ticket, wakes);
            None
        });
        Job {
            requests,
            sent,
            finish,
            fail,
        }
    }

    /// Step 5, without blocking the driver: the committer answers once the records are durable.
    fn acknowledge(mut self, ticket: u64, wakes: &mut Wakes) {
        let inner = Arc::clone(&self.inner);
        let each_batch = inner.durability(self.options) == Durability::EachBatch;
        let Some(writer) = inner.writer.as_ref().filter(|_| each_batch) else {
            self.finish(wakes);
            return;
        };
        let stopped = Arc::downgrade(&inner);
        let durable = move |outcome: Result<(), Error>| {
            let why = |error| {
                stopped
                    .upgrade()
                    .map_or(Error::Closed, |inner| inner.stopped(error))
            };
            not_durable(&mut self.answers, outcome.map_err(why));
            self.finish(&mut Wakes::default());
        };
        writer.log.when_durable(ticket, Box::new(durable));
        if inner.is_manual() && !writer.log.is_durable(ticket) {
            drop(inner.commit(writer));
        }
    }

    fn finish(mut self, wakes: &mut Wakes) {
        settle(&mut self.answers, &self.followers);
        self.reply.give(self.answers, wakes);
    }
}

/// Starts a sync.
pub(crate) fn sync(inner: &Arc<Inner>) -> Operation<Result<(), Error>> {
    let (operation, completer) = operation(|| Err(Error::Closed));
    match inner.enter_writing() {
        Err(error) => completer.complete(Err(error)),
        Ok((pass, writer)) => {
            let ticket = writer.log.ticket();
            let stopped = Arc::downgrade(inner);
            let waiter = move |outcome: Result<(), Error>| {
                let outcome = match stopped.upgrade() {
                    // What was durable before may be cut off since.
                    Some(inner) => outcome
                        .and_then(|()| inner.check_size().inspect_err(|_| inner.tell_poisoned()))
                        .map_err(|error| inner.stopped(error)),
                    None => outcome,
                };
                drop(pass);
                completer.complete(outcome);
            };
            writer.log.when_synced(ticket, Box::new(waiter));
            if inner.is_manual() {
                drop(inner.commit(writer));
            }
        }
    }
    operation
}

/// Hands a job to the driver; a simulator's store runs it here and now.
fn start(inner: &Arc<Inner>, job: Option<Job>) {
    let Some(job) = job else { return };
    let deadline = inner.options.io_deadline;
    if !inner.is_manual() {
        return inner.driver.start(&inner.lanes, job, deadline);
    }
    let mut next = Some(job);
    while let Some(Job {
        requests,
        sent,
        finish,
        fail,
    }) = next.take()
    {
        let (wave, wait) = (Whole { sent, finish }, inner.busy_wait());
        match inner.lanes.drive(wave, requests, wait, deadline) {
            Ok(following) => next = following,
            Err(error) => fail(error),
        }
    }
}

/// A job's own way to finish, as a wave.
struct Whole {
    sent: Arc<AtomicBool>,
    finish: Finish,
}

impl Wave for Whole {
    type Output = Option<Job>;

    fn sent(&mut self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    fn complete(self, completions: Vec<rb_io::Completion>) -> Option<Job> {
        (self.finish)(completions, &mut Wakes::default())
    }
}
