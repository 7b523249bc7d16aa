//! One session of a store: threads work on it until the time is over, then it is dropped or closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rb_core::{Event as StoreEvent, Events, Store, StoreOptions};

use super::event::{Answer, Event, What};
use super::journal::Journal;
use super::oracle::LAST_READS;
use super::plan::{End, Numbers, Plan};
use super::shape::{Key, number};
use super::worker::Worker;
use crate::tally::words;

/// Number of keys read by one operation when a session begins.
const TOGETHER: usize = 64;
/// Number of the first of the operations that read all keys, and of the one that ends the session. 0 stands for what
/// was found.
const FIRST_OP: u64 = 1;
pub(super) const LAST_OP: u64 = u64::MAX;

/// Records evictions, in the thread of the put, before it writes the slot; sometimes makes that thread wait there,
/// between two locks.
#[derive(Debug)]
struct Observer {
    journal: Arc<Journal>,
    /// Number of evictions recorded.
    evicted: AtomicU64,
    /// True once the threads have begun.
    at_work: AtomicBool,
}

impl Events for Observer {
    fn event(&self, event: &StoreEvent<'_>) {
        match event {
            StoreEvent::Evicted {
                key, generation, ..
            } if let Some(key) = number(key) => {
                let generation = *generation;
                self.journal.record(&Event::Evicted { key, generation });
                match self.evicted.fetch_add(1, Ordering::Relaxed) % 64 {
                    0 => thread::sleep(Duration::from_micros(200)),
                    1..16 => thread::yield_now(),
                    _ => {}
                }
            }
            // An entry whose slot a crash left with other bytes. It was read before the threads
            // began.
            StoreEvent::Dropped { .. } if !self.at_work.load(Ordering::Relaxed) => {}
            other => self
                .journal
                .violation(format!("a healthy store has no event like {other:?}")),
        }
    }
}

/// Runs a session. Errors and violations are in the journal.
pub(super) fn run(plan: &Plan, journal: &Arc<Journal>) {
    if let Err(why) = session(plan, journal) {
        journal.violation(why);
    }
}

fn session(plan: &Plan, journal: &Arc<Journal>) -> Result<(), String> {
    let observer = Arc::new(Observer {
        journal: Arc::clone(journal),
        evicted: AtomicU64::new(0),
        at_work: AtomicBool::new(false),
    });
    let options = StoreOptions {
        events: Some(Arc::clone(&observer) as Arc<dyn Events>),
        ..plan.session.options(plan.engine)
    };
    let store = Store::open(&plan.path, options)
        .map_err(|why| format!("the store did not open: {}", words(&why)))?;
    journal.record(&Event::Serving);
    if let Some(lost) = &store.recovery().lost_metadata {
        return Err(format!("metadata was lost: {lost}"));
    }
    if plan.reads_first {
        read_all(plan, &store, journal, FIRST_OP)?;
    }
    observer.at_work.store(true, Ordering::Relaxed);
    work(plan, &store, journal)?;
    if journal.is_wrong() {
        return Ok(());
    }
    read_all(plan, &store, journal, LAST_READS)?;
    accounts(&store, &observer)?;
    let what = match plan.end {
        End::Drop => What::Drop,
        End::Close => What::Close,
    };
    journal.record(&Event::Begin { op: LAST_OP, what });
    if plan.end == End::Close {
        store
            .close()
            .map_err(|why| format!("close: {}", words(&why)))?;
    }
    drop(store);
    journal.record(&Event::End {
        op: LAST_OP,
        answers: vec![Answer::Done],
    });
    Ok(())
}

fn work(plan: &Plan, store: &Store, journal: &Arc<Journal>) -> Result<(), String> {
    let until = Instant::now() + plan.time;
    let numbers = Arc::new(Numbers {
        version: AtomicU64::new(plan.first_version),
    });
    let plan = Arc::new(plan.clone());
    let threads: Vec<_> = (0..plan.session.threads)
        .map(|number| {
            let mut worker = Worker::new(&plan, store, journal, &numbers, number);
            thread::spawn(move || worker.run(until))
        })
        .collect();
    let mut outcome = Ok(());
    for thread in threads {
        let ended = thread
            .join()
            .unwrap_or_else(|_| Err("a thread panicked".into()));
        outcome = outcome.and(ended);
    }
    outcome
}

/// Checks that nothing is in use any more, and nothing failed.
fn accounts(store: &Store, observer: &Observer) -> Result<(), String> {
    store.audit().map_err(|why| format!("audit: {why}"))?;
    let stats = store.stats();
    let reported = observer.evicted.load(Ordering::Relaxed);
    if reported != stats.index.evictions {
        let evictions = stats.index.evictions;
        return Err(format!("of {evictions} evictions {reported} were reported"));
    }
    let discard = &stats.discard;
    if discard.failures > 0 {
        return Err(format!("discards failed: {discard:?}"));
    }
    for class in &stats.index.classes {
        if [class.reserved, class.retired, class.quarantined, class.bad] != [0; 4] {
            return Err(format!("slots are not accounted for: {class:?}"));
        }
    }
    Ok(())
}

fn read_all(plan: &Plan, store: &Store, journal: &Journal, first: u64) -> Result<(), String> {
    let keys: Vec<Key> = (0..plan.image.keys()).collect();
    for (op, keys) in (first..).zip(keys.chunks(TOGETHER)) {
        let what = What::Get(keys.to_vec());
        journal.record(&Event::Begin { op, what });
        let answers = super::read::read(store, &plan.image, keys)?;
        journal.record(&Event::End { op, answers });
    }
    Ok(())
}
