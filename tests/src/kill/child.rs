//! The child: opens, works in several threads, closes, and again, until it is killed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rb_core::{
    Durability, EngineKind, Error, Event, Events, Lock, Operation, Put, PutMode, PutOptions,
    PutResult, Store, StoreOptions, Stored,
};
use rb_testkit::values::next_number;

use super::keys::{BATCH, Key, THREADS, name, number, pick, value_len};
use super::lines::{Answer, Line};
use crate::marked::{bytes_of, payload, version_of};
use crate::tally::words;

/// What the parent tells the child.
#[derive(Clone, Debug)]
pub struct ChildOptions {
    /// The store.
    pub store: PathBuf,
    /// Its engine.
    pub engine: EngineKind,
    /// Decides what the child does.
    pub seed: u64,
    /// The first version that it may put; each is put once in a run.
    pub first_version: u64,
}

/// Opens, works and closes for ever. Returns only what must not be.
pub fn child(options: &ChildOptions) -> String {
    let shared = Arc::new(Shared {
        next_op: AtomicU64::new(1),
        next_version: AtomicU64::new(options.first_version),
    });
    let mut state = options.seed;
    let mut closed = false;
    loop {
        match life(options, &shared, &mut state, closed) {
            Ok(was_closed) => closed = was_closed,
            Err(what) => {
                Line::Violation(what.clone()).say();
                return what;
            }
        }
    }
}

#[derive(Debug)]
struct Shared {
    next_op: AtomicU64,
    next_version: AtomicU64,
}

/// Says who was evicted, before the slot is written again.
#[derive(Debug)]
struct Teller;

impl Events for Teller {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Evicted { key, .. } if let Some(key) = number(key) => Line::Evicted(key).say(),
            // An entry whose bytes were overwritten after the last sync of an earlier life.
            Event::Dropped { .. } => {}
            other => Line::Violation(format!("a healthy store has no event like {other:?}")).say(),
        }
    }
}

/// One opening, some work, and the end of it. Answers whether the store was closed.
fn life(
    options: &ChildOptions,
    shared: &Arc<Shared>,
    state: &mut u64,
    was_closed: bool,
) -> Result<bool, String> {
    let mut random = |below: u64| next_number(state) % below;
    let work = Duration::from_millis(5 + random(120));
    let sync_interval = [1, 50, 1_000_000][random(3) as usize];
    let shards = [1, 4][random(2) as usize];
    let closes = random(3) > 0;
    let seed = random(u64::MAX);
    Line::Opening.say();
    let store = Store::open(
        &options.store,
        StoreOptions {
            engine: options.engine,
            buffer_bytes: Some(4 << 20),
            queue_depth: 64,
            shards: Some(shards),
            sync_interval: Duration::from_millis(sync_interval),
            events: Some(Arc::new(Teller)),
            ..StoreOptions::default()
        },
    )
    .map_err(|why| format!("the store did not open: {}", words(&why)))?;
    if let Some(lost) = &store.recovery().lost_metadata {
        return Err(format!("metadata was lost: {lost}"));
    }
    if was_closed && !store.recovery().clean {
        return Err("the store was closed, and is not clean".into());
    }
    Line::Serving.say();
    let until = Instant::now() + work;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let mut worker = Worker {
                store: store.clone(),
                shared: Arc::clone(shared),
                thread,
                state: seed ^ thread,
                waiting: Vec::new(),
            };
            std::thread::spawn(move || worker.run(until))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    store.audit().map_err(|why| format!("audit: {why}"))?;
    Line::Closing.say();
    if closes {
        store.close().map_err(|why| format!("close: {why}"))?;
    }
    drop(store);
    Line::Closed.say();
    Ok(closes)
}

struct Worker {
    store: Store,
    shared: Arc<Shared>,
    thread: u64,
    state: u64,
    /// Async puts that were started.
    waiting: Vec<(u64, Operation<Vec<PutResult>>)>,
}

impl Worker {
    fn run(&mut self, until: Instant) -> Result<(), String> {
        while Instant::now() < until {
            self.step()?;
            if self.waiting.len() > 2 {
                self.wait()?;
            }
        }
        self.wait()
    }

    fn random(&mut self, below: u64) -> u64 {
        next_number(&mut self.state) % below
    }

    fn some_keys(&mut self) -> Vec<Key> {
        let thread = self.thread;
        let mut random = |below| next_number(&mut self.state) % below;
        let keys: BTreeSet<Key> = (0..=random(BATCH))
            .map(|_| pick(thread, &mut random))
            .collect();
        keys.into_iter().collect()
    }

    fn step(&mut self) -> Result<(), String> {
        let keys = self.some_keys();
        match self.random(100) {
            0..45 => self.put(&keys),
            45..57 => self.remove(&keys),
            57..70 => self.get(&keys),
            70..78 => {
                let names: Vec<_> = keys.iter().map(|&key| name(key)).collect();
                let locks: Vec<Option<Lock>> = self.store.lookup_and_lock(&slices(&names));
                let others = self.some_keys();
                self.put(&others)?;
                self.remove(&keys[..1])?;
                self.store.unlock(locks.into_iter().flatten().collect());
                Ok(())
            }
            78..92 => {
                let number = self.shared.next_op.fetch_add(1, Ordering::Relaxed);
                Line::Syncing(number).say();
                self.store.sync().map_err(|why| format!("sync: {why}"))?;
                Line::Synced(number).say();
                Ok(())
            }
            92..95 => self
                .store
                .checkpoint()
                .map_err(|why| format!("checkpoint: {why}")),
            _ => self.wait(),
        }
    }

    fn put(&mut self, keys: &[Key]) -> Result<(), String> {
        let count = keys.len() as u64;
        let first = self.shared.next_version.fetch_add(count, Ordering::Relaxed);
        let op = self.shared.next_op.fetch_add(1, Ordering::Relaxed);
        let durable = self.random(10) == 0;
        let options = PutOptions {
            mode: match self.random(5) {
                0 => PutMode::KeepExisting,
                _ => PutMode::Replace,
            },
            durability: durable.then_some(Durability::EachBatch),
            ..PutOptions::default()
        };
        let puts: Vec<(Key, u64)> = keys.iter().copied().zip(first..).collect();
        let names: Vec<_> = keys.iter().map(|&key| name(key)).collect();
        let values: Vec<_> = puts
            .iter()
            .map(|&(key, version)| bytes_of(key, version, value_len(key, version)))
            .collect();
        let in_own_memory = self.random(3) == 0;
        let batch: Vec<Put<'_>> = names
            .iter()
            .zip(&values)
            .map(|(key, bytes)| Put {
                key,
                payload: payload(&self.store, bytes, in_own_memory),
                metadata: &[],
            })
            .collect();
        Line::Put { op, puts, durable }.say();
        if self.random(3) == 0 {
            let started = self.store.put_many_async(batch, options);
            self.waiting.push((op, started));
            return Ok(());
        }
        let answers = self.store.put_many(batch, options);
        answered(op, answers.into_iter().map(put_answer))
    }

    /// Waits for all async puts.
    fn wait(&mut self) -> Result<(), String> {
        for (op, started) in self.waiting.drain(..) {
            answered(op, started.wait().into_iter().map(put_answer))?;
        }
        Ok(())
    }

    fn remove(&mut self, keys: &[Key]) -> Result<(), String> {
        let op = self.shared.next_op.fetch_add(1, Ordering::Relaxed);
        let names: Vec<_> = keys.iter().map(|&key| name(key)).collect();
        let keys = keys.to_vec();
        Line::Remove { op, keys }.say();
        let answers = self.store.remove_many(&slices(&names)).into_iter();
        answered(
            op,
            answers.map(|answer| answer.map_or_else(refusal, |_| Ok(Answer::Done))),
        )
    }

    fn get(&mut self, keys: &[Key]) -> Result<(), String> {
        let names: Vec<_> = keys.iter().map(|&key| name(key)).collect();
        let answers = self.store.get_many(&slices(&names));
        for (&key, answer) in keys.iter().zip(answers) {
            if let Some(bytes) = answer.map_err(|why| format!("get of {key}: {why}"))? {
                version_of(key, &bytes)?;
            }
        }
        Ok(())
    }
}

fn answered(op: u64, answers: impl Iterator<Item = Result<Answer, String>>) -> Result<(), String> {
    let answers = answers.collect::<Result<_, _>>()?;
    Line::Answers { op, answers }.say();
    Ok(())
}

fn put_answer(answer: PutResult) -> Result<Answer, String> {
    match answer {
        Ok(Stored::Stored) => Ok(Answer::Done),
        Ok(Stored::Existed) => Ok(Answer::Unchanged),
        Ok(_) => Ok(Answer::Superseded),
        Err(error) => refusal(error),
    }
}

/// What a busy store may answer; anything else must not be.
fn refusal(error: Error) -> Result<Answer, String> {
    match error {
        Error::NoSpace { .. } | Error::Busy { .. } => Ok(Answer::Unchanged),
        other => Err(format!("refused: {}", words(&other))),
    }
}

fn slices(names: &[Vec<u8>]) -> Vec<&[u8]> {
    names.iter().map(Vec::as_slice).collect()
}
