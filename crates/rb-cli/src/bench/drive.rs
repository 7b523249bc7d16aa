//! The measured part: gets, puts or both, for a given time, on a given number of threads.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rb_core::{Lookup, Operation, PutOptions, PutResult};
use rustix::time::{ClockId, clock_gettime};

use super::choice::Choice;
use super::prepare::Prepared;
use super::value::looks_right;
use crate::args::{BenchArgs, BenchOp};
use crate::failure::Failure;
use crate::progress;
use crate::series::{Kind, Measured, Recorder, Series};

/// Duration of the run before the measurement.
const WARM_UP: Duration = Duration::from_millis(200);

/// Time for which an idle store is left alone before it is measured.
const SETTLE: Duration = Duration::from_secs(1);

/// Counts of one thread, or of all threads.
#[derive(Default)]
pub(super) struct BenchTally {
    /// Values that differ from what was put, or are missing.
    pub(super) wrong: u64,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

/// A measurement of all threads.
pub(super) struct BenchRun {
    pub(super) tally: BenchTally,
    pub(super) measured: Measured,
    pub(super) time: Duration,
    pub(super) cpu: Duration,
    pub(super) commits: u64,
}

/// A call in flight.
enum InFlight {
    Get(Operation<Vec<Lookup>>),
    Put(Operation<Vec<PutResult>>),
}

/// One thread of the run.
struct Worker<'a> {
    prepared: &'a Prepared,
    args: &'a BenchArgs,
    choice: Choice,
    recorder: Recorder<'a>,
    tally: BenchTally,
}

/// Number of async calls in flight on each thread.
pub(super) fn calls(args: &BenchArgs) -> usize {
    (args.depth / args.batch).max(1)
}

/// Runs the operation on every thread until the time is over, and syncs puts at the end.
pub(super) fn run(
    prepared: &Prepared,
    args: &BenchArgs,
    time: Duration,
) -> Result<BenchRun, Failure> {
    // Let the commit of earlier puts finish, so that the store is idle.
    if args.op == BenchOp::Idle {
        std::thread::sleep(SETTLE);
    }
    // The first operations start threads, make queues and pin buffers.
    let choice = Choice::of(args, prepared.keys.len())?;
    let warm_up = Series::start(indicatif::ProgressBar::hidden());
    each_thread(prepared, args, &choice, WARM_UP, &warm_up)?;
    let before = prepared.store.stats().commits;
    let series = Series::start(progress::rates(time));
    let (start, cpu) = (Instant::now(), cpu_time());
    let tally = each_thread(prepared, args, &choice, time, &series)?;
    if matches!(args.op, BenchOp::Put | BenchOp::Mixed) {
        prepared.store.sync().map_err(|source| Failure::Store {
            what: "syncing",
            source,
        })?;
    }
    let (time, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu));
    Ok(BenchRun {
        tally,
        measured: series.finish(),
        time,
        cpu,
        commits: prepared.store.stats().commits - before,
    })
}

/// Runs the operation on every thread for `time`.
fn each_thread(
    prepared: &Prepared,
    args: &BenchArgs,
    choice: &Choice,
    time: Duration,
    series: &Series,
) -> Result<BenchTally, Failure> {
    let end = Instant::now() + time;
    let work = |thread| {
        let mut worker = Worker {
            prepared,
            args,
            choice: choice.for_thread(thread),
            recorder: series.recorder(),
            tally: BenchTally::default(),
        };
        worker.run(end).map(|()| worker.tally)
    };
    let mut tallies = Vec::new();
    std::thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> = (1..args.threads as u64)
            .map(|thread| scope.spawn(move || work(thread)))
            .collect();
        tallies.push(work(0));
        tallies.extend(others.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| {
                Err(Failure::Contract {
                    what: "a thread of the bench panicked".into(),
                })
            })
        }));
    });
    let mut sum = BenchTally::default();
    for tally in tallies {
        sum.add(tally?);
    }
    Ok(sum)
}

/// User and system time of the process, including the kernel's helper threads of its rings.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

impl Worker<'_> {
    fn run(&mut self, end: Instant) -> Result<(), Failure> {
        if self.args.op == BenchOp::Idle {
            std::thread::sleep(end.saturating_duration_since(Instant::now()));
            return Ok(());
        }
        // A thread makes at least one call, so that even the shortest measurement has a latency.
        if self.args.blocking {
            self.block()?;
            while Instant::now() < end {
                self.block()?;
            }
            return Ok(());
        }
        let calls = calls(self.args);
        let mut in_flight = VecDeque::with_capacity(calls);
        in_flight.push_back(self.start()?);
        loop {
            while in_flight.len() < calls && Instant::now() < end {
                in_flight.push_back(self.start()?);
            }
            let Some((ids, since, operation)) = in_flight.pop_front() else {
                return Ok(());
            };
            match operation {
                InFlight::Get(operation) => self.got(&ids, since, operation.wait()),
                InFlight::Put(operation) => self.put(since, operation.wait()),
            }
        }
    }

    fn keys(&self, ids: &[usize]) -> Vec<&[u8]> {
        ids.iter().map(|id| &*self.prepared.keys[*id]).collect()
    }

    fn start(&mut self) -> Result<(Vec<usize>, Instant, InFlight), Failure> {
        let (kind, ids) = self.choice.call(self.args.batch);
        let store = &self.prepared.store;
        let since = Instant::now();
        let operation = match kind {
            Kind::Get => InFlight::Get(store.get_many_async(&self.keys(&ids))),
            Kind::Put => {
                let puts = self.prepared.values(&ids)?;
                InFlight::Put(store.put_many_async(puts, PutOptions::default()))
            }
        };
        Ok((ids, since, operation))
    }

    fn block(&mut self) -> Result<(), Failure> {
        let (kind, ids) = self.choice.call(self.args.batch);
        let store = &self.prepared.store;
        match kind {
            Kind::Get => {
                let since = Instant::now();
                let results = store.get_many(&self.keys(&ids));
                self.got(&ids, since, results);
            }
            Kind::Put => {
                let puts = self.prepared.values(&ids)?;
                let since = Instant::now();
                let results = store.put_many(puts, PutOptions::default());
                self.put(since, results);
            }
        }
        Ok(())
    }

    fn got(&mut self, ids: &[usize], since: Instant, results: Vec<Lookup>) {
        let now = Instant::now();
        let (mut values, mut bytes) = (0, 0);
        for (id, result) in ids.iter().zip(results) {
            match result {
                Ok(value) => {
                    let right = value
                        .as_ref()
                        .is_some_and(|value| looks_right(*id as u64, value));
                    self.tally.wrong += u64::from(!right);
                    values += 1;
                    bytes += value.map_or(0, |value| value.len() as u64);
                }
                Err(error) => self.tally.failed(&error),
            }
        }
        self.recorder
            .call(Kind::Get, now, now - since, values, bytes);
    }

    fn put(&mut self, since: Instant, results: Vec<PutResult>) {
        let now = Instant::now();
        let mut values = 0;
        for result in results {
            match result {
                Ok(_) => values += 1,
                Err(error) => self.tally.failed(&error),
            }
        }
        let bytes = values * self.prepared.value_bytes as u64;
        self.recorder
            .call(Kind::Put, now, now - since, values, bytes);
    }
}

impl BenchTally {
    fn failed(&mut self, error: &rb_core::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    fn add(&mut self, other: BenchTally) {
        self.wrong += other.wrong;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }
}
