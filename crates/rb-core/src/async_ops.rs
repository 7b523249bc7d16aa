//! The async forms: the same steps as the blocking ones, with the waves driven by the driver thread.

use std::sync::Arc;

use crate::driver::Job;
use crate::error::Error;
use crate::gate::Pass;
use crate::get::{Lookup, lease_all};
use crate::get_wave::GetWave;
use crate::inner::Inner;
use crate::lanes::Wave;
use crate::operation::{Completer, Operation, operation};
use crate::options::{Durability, PutOptions};
use crate::put::PutResult;
use crate::put_plan::{Planned, Put, Stored, plan, waves};
use crate::put_wave::PutWave;

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
    let job = Getting {
        answers,
        completer,
        pass,
    }
    .job(wave);
    start(inner, job);
    operation
}

struct Getting {
    answers: Vec<Lookup>,
    completer: Completer<Vec<Lookup>>,
    pass: Pass,
}

impl Getting {
    /// The wave as a job, or the answer if there is nothing to read.
    fn job(mut self, mut wave: GetWave) -> Option<Job> {
        let positions = wave.positions();
        if !wave.is_empty() {
            match wave.requests() {
                Ok(requests) => {
                    let finish = Box::new(move |completions| {
                        let done = wave.complete(completions);
                        for (at, answer) in done.answers {
                            self.answers[at] = answer;
                        }
                        match done.again {
                            Some(again) => self.job(again),
                            None => self.finish(),
                        }
                    });
                    return Some(Job { requests, finish });
                }
                Err(error) => {
                    for at in positions {
                        self.answers[at] = Err(error.clone());
                    }
                }
            }
        }
        self.finish()
    }

    fn finish(self) -> Option<Job> {
        // The operation ends before it is answered: whoever is woken may close the store.
        let Getting {
            answers,
            completer,
            pass,
        } = self;
        drop(pass);
        completer.complete(answers);
        None
    }
}

/// Starts putting many values. The values are copied or taken over before this returns; a batch
/// larger than half the buffer memory is refused, because its later waves would have to wait.
pub(crate) fn put_many(
    inner: &Arc<Inner>,
    puts: Vec<Put<'_>>,
    options: PutOptions,
) -> Operation<Vec<PutResult>> {
    let count = puts.len();
    let (operation, completer) =
        operation(move || (0..count).map(|_| Err(Error::Closed)).collect());
    let (pass, job) = match prepare(inner, puts, options) {
        Ok(prepared) => prepared,
        Err(error) => {
            completer.complete(vec![Err(error); count]);
            return operation;
        }
    };
    let putting = Putting {
        inner: Arc::clone(inner),
        answers: job.answers,
        completer,
        options,
        pass,
    };
    let job = match job.wave {
        Some((wave, requests)) => Some(putting.job(wave, requests)),
        None => {
            putting.completer.complete(putting.answers);
            None
        }
    };
    start(inner, job);
    operation
}

struct Prepared {
    answers: Vec<PutResult>,
    wave: Option<(PutWave, Vec<rb_io::Request>)>,
}

fn prepare(
    inner: &Arc<Inner>,
    puts: Vec<Put<'_>>,
    options: PutOptions,
) -> Result<(Pass, Prepared), Error> {
    let (pass, writer) = inner.enter_writing()?;
    let (planned, mut answers) = plan(inner, puts, options);
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
    let Some(planned) = waves.pop() else {
        return Ok((
            pass,
            Prepared {
                answers,
                wave: None,
            },
        ));
    };
    let wave = PutWave::prepare(inner, writer, planned, options, &mut answers)?;
    Ok((
        pass,
        Prepared {
            answers,
            wave: Some(wave),
        },
    ))
}

struct Putting {
    inner: Arc<Inner>,
    answers: Vec<PutResult>,
    completer: Completer<Vec<PutResult>>,
    options: PutOptions,
    pass: Pass,
}

impl Putting {
    fn job(mut self, mut wave: PutWave, requests: Vec<rb_io::Request>) -> Job {
        wave.sent();
        let finish = Box::new(move |completions| {
            let done = wave.complete(completions);
            for (at, answer) in done.answers {
                self.answers[at] = answer;
            }
            self.acknowledge(done.ticket);
            None
        });
        Job { requests, finish }
    }

    /// Step 5, without blocking the driver: the committer answers once the records are durable.
    fn acknowledge(self, ticket: u64) {
        let inner = Arc::clone(&self.inner);
        let durability = self.options.durability.unwrap_or(inner.options.durability);
        let Some(writer) = inner
            .writer
            .as_ref()
            .filter(|_| durability == Durability::EachBatch)
        else {
            drop(self.pass);
            self.completer.complete(self.answers);
            return;
        };
        let Putting {
            mut answers,
            completer,
            pass,
            ..
        } = self;
        let durable = move |outcome: Result<(), Error>| {
            if let Err(error) = outcome {
                for answer in answers
                    .iter_mut()
                    .filter(|answer| matches!(answer, Ok(Stored::Stored)))
                {
                    *answer = Err(error.clone());
                }
            }
            drop(pass);
            completer.complete(answers);
        };
        writer.log.when_durable(ticket, Box::new(durable));
        if inner.is_manual() {
            drop(inner.commit(writer));
        }
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
                let outcome = outcome.map_err(|error| match stopped.upgrade() {
                    Some(inner) => inner.stopped(error),
                    None => error,
                });
                drop(pass);
                completer.complete(outcome);
            };
            writer.log.when_durable(ticket, Box::new(waiter));
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
    if !inner.is_manual() {
        // On failure the job is dropped, and with it the completer, which answers `Closed`.
        drop(inner.driver.start(&inner.lanes, job));
        return;
    }
    let mut next = Some(job);
    while let Some(Job { requests, finish }) = next.take() {
        struct Whole(Box<dyn FnOnce(Vec<rb_io::Completion>) -> Option<Job> + Send>);
        impl Wave for Whole {
            type Output = Option<Job>;
            fn complete(self, completions: Vec<rb_io::Completion>) -> Option<Job> {
                (self.0)(completions)
            }
        }
        let (wait, deadline) = (inner.busy_wait(), inner.options.io_deadline);
        next = inner
            .lanes
            .drive(Whole(finish), requests, wait, deadline)
            .ok()
            .flatten();
    }
}
