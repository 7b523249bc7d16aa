//! Batches in progress: a table of them, and an eventfd that says when to look.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use parking_lot::Mutex;
use rb_core::{LookupAt, Operation, PutResult};

use crate::batch::{Borrowed, Ended, Wanted};
use crate::bell::Bell;

/// The batches of puts, or of gets, of a store.
pub(crate) struct Tasks {
    pub(crate) bell: Bell,
    /// Batches that may have ended.
    rung: Mutex<Vec<u64>>,
    table: Mutex<Table>,
    late: AtomicUsize,
}

#[derive(Default)]
struct Table {
    last: u64,
    tasks: HashMap<u64, Task>,
}

/// A batch.
pub(crate) struct Task {
    /// The position of each loan.
    pub(crate) at: Vec<usize>,
    pub(crate) borrowed: Borrowed,
    pub(crate) work: Work,
    pub(crate) since: Instant,
}

/// The work of a batch.
pub(crate) enum Work {
    Put(Operation<Vec<PutResult>>, Ended),
    Get(Operation<Vec<LookupAt>>, Ended, Wanted),
    /// It has its answers, and the device holds memory of it until `freed` is set.
    Late {
        ended: Ended,
        freed: Arc<AtomicBool>,
    },
    Ended(Ended),
}

/// Rings for one batch.
struct Ring {
    tasks: Weak<Tasks>,
    id: u64,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        if let Some(tasks) = self.tasks.upgrade() {
            tasks.ring(self.id);
        }
    }
}

impl Tasks {
    pub(crate) fn new(bell: Bell) -> Arc<Tasks> {
        Arc::new(Tasks {
            bell,
            rung: Mutex::default(),
            table: Mutex::default(),
            late: AtomicUsize::new(0),
        })
    }

    fn ring(&self, id: u64) {
        self.rung.lock().push(id);
        self.bell.ring();
    }

    /// Adds a batch and returns its id.
    pub(crate) fn add(self: &Arc<Self>, task: Task) -> u64 {
        let mut table = self.table.lock();
        table.last += 1;
        let id = table.last;
        table.tasks.insert(id, task);
        // Looks at it once: that is what makes it ring.
        self.look(&mut table, id).then(|| self.ring(id));
        id
    }

    /// Returns the batches that have ended, with their memory, which the caller drops while it has the interpreter.
    pub(crate) fn drain(self: &Arc<Self>) -> Vec<(u64, Ended, Borrowed)> {
        self.bell.silence();
        let rung = std::mem::take(&mut *self.rung.lock());
        let mut table = self.table.lock();
        let mut all = Vec::new();
        for id in rung {
            if !self.look(&mut table, id) {
                continue;
            }
            if let Some(task) = table.tasks.remove(&id)
                && let Work::Ended(ended) = task.work
            {
                all.push((id, ended, task.borrowed));
            }
        }
        all
    }

    /// Moves a batch on and returns whether it has ended.
    fn look(self: &Arc<Self>, table: &mut Table, id: u64) -> bool {
        // Unknown ids rang twice.
        let Some(task) = table.tasks.get_mut(&id) else {
            return false;
        };
        let waker = Waker::from(Arc::new(Ring {
            tasks: Arc::downgrade(self),
            id,
        }));
        let mut context = Context::from_waker(&waker);
        let spans = &task.borrowed.spans;
        let ended = match &mut task.work {
            Work::Put(putting, ended) => match Pin::new(putting).poll(&mut context) {
                Poll::Pending => return false,
                Poll::Ready(answers) => ended.take().of_puts(&task.at, spans, answers),
            },
            Work::Get(getting, ended, wanted) => match Pin::new(getting).poll(&mut context) {
                Poll::Pending => return false,
                Poll::Ready(answers) => ended.take().of_gets(&task.at, spans, answers, wanted),
            },
            Work::Late { freed, .. } if !freed.load(Ordering::Acquire) => return false,
            Work::Late { ended, .. } => {
                self.late.fetch_sub(1, Ordering::Relaxed);
                task.work = Work::Ended(ended.take());
                return true;
            }
            Work::Ended(_) => return true,
        };
        let (tasks, freed) = (Arc::downgrade(self), Arc::new(AtomicBool::new(false)));
        let is_free = Arc::clone(&freed);
        // It may be called at once, while the table is locked.
        let is_late = task.borrowed.when_free(&task.at, &ended, move || {
            is_free.store(true, Ordering::Release);
            if let Some(tasks) = tasks.upgrade() {
                tasks.ring(id);
            }
        });
        if is_late && !freed.load(Ordering::Acquire) {
            // Relaxed: a batch that starts in the same moment may or may not be refused.
            self.late.fetch_add(1, Ordering::Relaxed);
            task.work = Work::Late { ended, freed };
            return false;
        }
        task.work = Work::Ended(ended);
        true
    }

    /// The number of batches, of late ones, and when the oldest began.
    pub(crate) fn counts(&self) -> (usize, usize, Option<Instant>) {
        let table = self.table.lock();
        let oldest = table.tasks.values().map(|task| task.since).min();
        (table.tasks.len(), self.late.load(Ordering::Relaxed), oldest)
    }

    /// Counts a batch that is no task and whose memory the device holds.
    pub(crate) fn begin_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end_late(&self) {
        self.late.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns true if the device holds memory of a batch whose time is over.
    pub(crate) fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        // The device may still write to memory that these objects own, and native threads may drop this.
        for (_, task) in self.table.get_mut().tasks.drain() {
            std::mem::forget(task.borrowed);
        }
    }
}
