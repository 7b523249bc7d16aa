//! An operation that can be waited on or awaited, without any async runtime.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rb_io::Process;

use crate::error::Error;
use crate::events::shielded;

/// An operation in progress. Dropping it abandons the answer, never the work or its memory. In a forked child of the process
/// that began it, the answer is an error at once.
#[must_use = "the answer is lost when this is dropped"]
pub struct Operation<T> {
    slot: Arc<Slot<T>>,
}

/// The other end of an [`Operation`].
pub(crate) struct Completer<T: Send + 'static> {
    slot: Arc<Slot<T>>,
    answered: bool,
}

/// What both ends share.
struct Slot<T> {
    process: Process,
    /// The answer of one that ends with an error: dropped without an answer, or waited for in a forked child.
    lost: Box<dyn Fn(Error) -> T + Send + Sync>,
    state: Mutex<State<T>>,
    answered: Condvar,
}

#[derive(Debug)]
struct State<T> {
    answer: Option<T>,
    /// A poll took the answer.
    taken: bool,
    waker: Option<Waker>,
    /// Threads blocked until there is an answer: none or one, since waiting consumes the operation.
    blocked: usize,
}

/// Those who are to hear of answers that have been given, told when this is dropped.
///
/// Waking a thread costs as much as the rest of a short operation, and whoever is woken looks at more
/// answers than one: who has several to give wakes once after the last of them.
#[derive(Default)]
pub(crate) struct Wakes {
    threads: Vec<Arc<dyn Blocking>>,
    tasks: Vec<Waker>,
    /// When the first of them could have been told.
    since: Option<Instant>,
}

/// What threads are blocked on.
trait Blocking: Send + Sync {
    fn unblock(&self);
}

impl<T: Send> Blocking for Slot<T> {
    fn unblock(&self) {
        self.answered.notify_all();
    }
}

impl Wakes {
    /// Tells them now if the first has waited as long as `patience`.
    pub(crate) fn notify_after(&mut self, patience: Duration) {
        if self.since.is_some_and(|since| since.elapsed() >= patience) {
            self.notify();
        }
    }

    pub(crate) fn notify(&mut self) {
        self.since = None;
        for thread in self.threads.drain(..) {
            thread.unblock();
        }
        for task in self.tasks.drain(..) {
            shielded(|| task.wake());
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.notify();
    }
}

/// An operation and its completer; `lost` is the answer of all that ends with an error, `Closed` if the completer is dropped
/// unused.
pub(crate) fn operation<T: Send + 'static>(
    lost: impl Fn(Error) -> T + Send + Sync + 'static,
) -> (Operation<T>, Completer<T>) {
    let state = Mutex::new(State {
        answer: None,
        taken: false,
        waker: None,
        blocked: 0,
    });
    let slot = Arc::new(Slot {
        process: Process::current(),
        lost: Box::new(lost),
        state,
        answered: Condvar::new(),
    });
    let completer = Completer {
        slot: Arc::clone(&slot),
        answered: false,
    };
    (Operation { slot }, completer)
}

impl<T> Slot<T> {
    /// The answer in a forked child, which has none of the threads that would give another, and may have the lock of one.
    fn forked(&self) -> Option<T> {
        let forked = !self.process.is_current();
        forked.then(|| {
            (self.lost)(Error::Forked {
                opened_by: self.process.id(),
            })
        })
    }
}

impl<T> Operation<T> {
    /// Blocks until the answer is there.
    ///
    /// # Panics
    /// A poll has taken the answer.
    #[must_use]
    pub fn wait(self) -> T {
        if let Some(answer) = self.slot.forked() {
            return answer;
        }
        let mut state = self.slot.state.lock();
        loop {
            if let Some(answer) = state.take() {
                return answer;
            }
            state.blocked += 1;
            self.slot.answered.wait(&mut state);
            state.blocked -= 1;
        }
    }

    /// Blocks until the answer is there or the time is over; then the operation is given back.
    ///
    /// # Errors
    /// The operation itself, still in progress.
    ///
    /// # Panics
    /// A poll has taken the answer.
    pub fn wait_for(self, timeout: Duration) -> Result<T, Operation<T>> {
        if let Some(answer) = self.slot.forked() {
            return Ok(answer);
        }
        let start = Instant::now();
        let mut state = self.slot.state.lock();
        loop {
            if let Some(answer) = state.take() {
                return Ok(answer);
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                drop(state);
                return Err(self);
            }
            state.blocked += 1;
            self.slot.answered.wait_for(&mut state, left);
            state.blocked -= 1;
        }
    }

    /// Whether the answer was given: nothing that takes it would wait.
    #[must_use]
    pub fn is_done(&self) -> bool {
        if !self.slot.process.is_current() {
            return true;
        }
        let state = self.slot.state.lock();
        state.answer.is_some() || state.taken
    }
}

impl<T> State<T> {
    /// # Panics
    /// The answer was taken before.
    fn take(&mut self) -> Option<T> {
        assert!(
            !self.taken,
            "an operation was polled or waited for after it had given its answer"
        );
        let answer = self.answer.take();
        self.taken = answer.is_some();
        answer
    }
}

/// # Panics
/// A poll after the answer.
impl<T> Future for Operation<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Some(answer) = self.slot.forked() {
            return Poll::Ready(answer);
        }
        // Code of the executor, as the drop of the former one below: neither runs under the lock.
        let waker = context.waker().clone();
        let mut state = self.slot.state.lock();
        if let Some(answer) = state.take() {
            return Poll::Ready(answer);
        }
        let former = state.waker.replace(waker);
        drop(state);
        drop(former);
        Poll::Pending
    }
}

impl<T> Drop for Operation<T> {
    fn drop(&mut self) {
        if !self.slot.process.is_current() {
            return;
        }
        // Whose answer is lost is not woken for it, and what the waker keeps alive may go. Code of the executor, as in a poll.
        let waker = self.slot.state.lock().waker.take();
        drop(waker);
    }
}

impl<T> fmt::Debug for Operation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("is_done", &self.is_done())
            .finish()
    }
}

impl<T: Send + 'static> Completer<T> {
    pub(crate) fn complete(self, answer: T) {
        self.answer(answer, &mut Wakes::default());
    }

    /// Gives the answer; who waits for it hears of it with `wakes`.
    pub(crate) fn answer(mut self, answer: T, wakes: &mut Wakes) {
        self.answered = true;
        answer_slot(&self.slot, answer, wakes);
    }
}

fn answer_slot<T: Send + 'static>(slot: &Arc<Slot<T>>, answer: T, wakes: &mut Wakes) {
    let mut state = slot.state.lock();
    state.answer = Some(answer);
    let (waker, blocked) = (state.waker.take(), state.blocked > 0);
    drop(state);
    if blocked {
        wakes.threads.push(Arc::clone(slot) as Arc<dyn Blocking>);
    }
    if waker.is_some() || blocked {
        wakes.tasks.extend(waker);
        wakes.since.get_or_insert_with(Instant::now);
    }
}

impl<T: Send + 'static> Drop for Completer<T> {
    fn drop(&mut self) {
        if !self.answered {
            let answer = (self.slot.lost)(Error::Closed);
            answer_slot(&self.slot, answer, &mut Wakes::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_completer_that_is_dropped_answers_all_the_same() {
        let (operation, completer) = operation(|_| "lost");
        drop(completer);
        assert_eq!(operation.wait(), "lost");
    }

    #[test]
    fn waits_and_polls_see_the_answer() {
        let (op, completer) = operation(|_| 0);
        let Err(op) = op.wait_for(Duration::from_millis(1)) else {
            panic!("nobody answered yet")
        };
        let thread = std::thread::spawn(move || completer.complete(7));
        assert_eq!(op.wait(), 7);
        thread.join().unwrap();

        let (mut op, completer) = operation(|_| 0);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut op).poll(&mut context).is_pending());
        completer.complete(9);
        assert_eq!(Pin::new(&mut op).poll(&mut context), Poll::Ready(9));
    }

    /// The operation stayed pending: an executor that polled once too often hung without an error.
    #[test]
    #[should_panic = "after it had given its answer"]
    fn a_poll_after_the_answer_says_so() {
        let (mut op, completer) = operation(|_| 0);
        completer.complete(9);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut op).poll(&mut context), Poll::Ready(9));
        let _ = Pin::new(&mut op).poll(&mut context);
    }

    /// Only a second poll said so: a thread that waited for an operation whose answer a poll had taken hung.
    #[test]
    #[should_panic = "after it had given its answer"]
    fn a_wait_after_the_answer_says_so() {
        let (mut op, completer) = operation(|_| 0);
        completer.complete(9);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut op).poll(&mut context), Poll::Ready(9));
        assert!(op.is_done());
        drop(op.wait_for(Duration::from_millis(1)));
    }

    /// Its waker, and the task behind it, stayed with the slot until the answer, and were woken for nothing.
    #[test]
    fn an_operation_that_is_dropped_drops_its_waker() {
        struct Counts(AtomicU32);
        impl std::task::Wake for Counts {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (mut op, completer) = operation(|_| 0);
        let task = Arc::new(Counts(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&task));
        let polled = Pin::new(&mut op).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop((op, waker));
        assert_eq!(Arc::strong_count(&task), 1, "the slot keeps it");
        completer.complete(1);
        assert_eq!(task.0.load(Ordering::Relaxed), 0);
    }

    /// The drop of a waker is code of the executor. It ran under the lock that the answer needs.
    #[test]
    fn a_waker_that_is_replaced_may_look_at_the_operation() {
        struct Looks(Mutex<Option<Arc<Slot<i32>>>>);
        impl std::task::Wake for Looks {
            fn wake(self: Arc<Self>) {}
        }
        impl Drop for Looks {
            fn drop(&mut self) {
                let slot = self.0.lock().take();
                assert!(slot.is_some_and(|slot| slot.state.try_lock().is_some()));
            }
        }
        let (mut op, _completer) = operation(|_| 0);
        let looks = Looks(Mutex::new(Some(Arc::clone(&op.slot))));
        let waker = Waker::from(Arc::new(looks));
        let polled = Pin::new(&mut op).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
        drop(waker);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut op).poll(&mut context).is_pending());
    }
}
