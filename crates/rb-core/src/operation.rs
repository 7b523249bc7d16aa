//! [`Operation`]: the result of an async call, to be waited on or awaited without an async runtime.

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

/// An operation in progress: a future that any executor can poll, and a handle that a thread can wait on.
///
/// Dropping it drops the result; the work goes on, and its memory stays valid. In a forked child of the process that
/// started it, it completes with an error immediately.
///
/// ```
/// use std::pin::pin;
/// use std::task::{Context, Poll, Waker};
/// # use std::future::Future;
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// # let store = Store::open_or_create(&options, StoreOptions::default())?;
/// let mut putting = pin!(store.put_async(b"key", b"value"));
/// let mut context = Context::from_waker(Waker::noop());
/// let outcome = loop {
///     match putting.as_mut().poll(&mut context) {
///         Poll::Ready(outcome) => break outcome,
///         Poll::Pending => std::thread::yield_now(),
///     }
/// };
/// assert!(outcome.is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the result is lost when this is dropped"]
pub struct Operation<T> {
    slot: Arc<Slot<T>>,
}

/// The other end of an [`Operation`].
pub(crate) struct Completer<T: Send + 'static> {
    slot: Arc<Slot<T>>,
    answered: bool,
}

/// State shared by the operation and its completer.
struct Slot<T> {
    process: Process,
    /// Makes the result from an error: for a completer that was dropped unused, or a wait in a forked child.
    lost: Box<dyn Fn(Error) -> T + Send + Sync>,
    state: Mutex<State<T>>,
    answered: Condvar,
}

#[derive(Debug)]
struct State<T> {
    answer: Option<T>,
    /// True if a poll or wait has taken the result.
    taken: bool,
    waker: Option<Waker>,
    /// Threads blocked until there is a result: 0 or 1, since waiting consumes the operation.
    blocked: usize,
}

/// Waiters of completed operations, notified when this is dropped.
///
/// Waking a thread costs as much as the rest of a short operation, and a woken thread usually finds several results. A
/// completing thread therefore completes all it has and wakes afterwards.
#[derive(Default)]
pub(crate) struct Wakes {
    threads: Vec<Arc<dyn Blocking>>,
    tasks: Vec<Waker>,
    /// When the first waiter was added.
    since: Option<Instant>,
}

/// A condition that threads are blocked on.
trait Blocking: Send + Sync {
    fn unblock(&self);
}

impl<T: Send> Blocking for Slot<T> {
    fn unblock(&self) {
        self.answered.notify_all();
    }
}

impl Wakes {
    /// Notifies all waiters if the first has waited for at least `patience`.
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

/// Makes an operation and its completer. `lost` makes the result from an error, which is `Closed` if the completer is
/// dropped unused.
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
    /// The result in a forked child, which has none of the threads that would complete the operation, and may have inherited
    /// a locked mutex of one.
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
    /// Blocks until the operation has completed and returns its result.
    ///
    /// # Panics
    /// If a poll has taken the result.
    ///
    /// ```
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// assert!(store.put_async(b"key", b"value").wait().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// Blocks until the operation has completed or `timeout` has passed.
    ///
    /// # Errors
    /// Returns the operation itself if it is still in progress.
    ///
    /// # Panics
    /// If a poll has taken the result.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// # let store = Store::open_or_create(&options, StoreOptions::default())?;
    /// let mut putting = store.put_async(b"key", b"value");
    /// let outcome = loop {
    ///     match putting.wait_for(Duration::from_millis(10)) {
    ///         Ok(outcome) => break outcome,
    ///         Err(pending) => putting = pending,
    ///     }
    /// };
    /// assert!(outcome.is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// Returns true if the operation has completed, so that a wait would not block.
    ///
    /// ```
    /// use rb_core::Background;
    /// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
    /// # let dir = tempfile::tempdir()?;
    /// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
    /// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
    /// // Without threads an async operation runs in the call that makes it.
    /// let manual = StoreOptions { background: Background::Manual, ..StoreOptions::default() };
    /// let store = Store::open_or_create(&options, manual)?;
    /// assert!(store.put_async(b"key", b"value").is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
    /// Takes the result, if there is one.
    ///
    /// # Panics
    /// If the result was taken before.
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
/// If polled after it has returned `Ready`.
impl<T> Future for Operation<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Some(answer) = self.slot.forked() {
            return Poll::Ready(answer);
        }
        // `clone`, and the drop of the former waker below, are the executor's code: not under the lock.
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
        // Nothing polls this any more: drop the waker and the task that it keeps alive. Outside the lock, as in `poll`.
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

    /// Completes the operation; its waiter is notified with `wakes`.
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
    fn a_completer_that_is_dropped_completes_with_an_error() {
        let (operation, completer) = operation(|_| "lost");
        drop(completer);
        assert_eq!(operation.wait(), "lost");
    }

    #[test]
    fn waits_and_polls_see_the_answer() {
        let (op, completer) = operation(|_| 0);
        let Err(op) = op.wait_for(Duration::from_millis(1)) else {
            panic!("it has not completed")
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

    /// The operation stayed pending: an executor that polled once more hung without an error.
    #[test]
    #[should_panic = "after it had given its answer"]
    fn a_poll_after_the_answer_says_so() {
        let (mut op, completer) = operation(|_| 0);
        completer.complete(9);
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut op).poll(&mut context), Poll::Ready(9));
        let _ = Pin::new(&mut op).poll(&mut context);
    }

    /// Only a second poll panicked: a thread that waited for an operation whose result a poll had taken hung.
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

    /// The waker, and the task behind it, stayed in the slot until completion and was woken for nothing.
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

    /// The drop of a waker is the executor's code. It ran under the lock that completion needs.
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
