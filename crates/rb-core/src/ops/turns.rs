//! An async call in parts: a few of them run at once, in order, and the next one begins when one has
//! ended. So a large call takes its turns with other calls, and does not compete with itself.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::core::waits::Waits;

/// Most parts of a call that run at once: one is prepared while the device works on the other.
const TOGETHER: usize = 2;

/// The parts of a call that have not begun, and the results of those that have ended.
pub(crate) struct Turns<P, A> {
    state: Mutex<State<P, A>>,
}

struct State<P, A> {
    waiting: VecDeque<P>,
    running: usize,
    /// True while a thread begins parts. A part may end where it is begun, which must not begin the
    /// next one inside: there may be thousands.
    beginning: bool,
    waits: Waits,
    /// `None` after the last part.
    results: Option<A>,
}

impl<P, A> Turns<P, A> {
    /// A call of these parts, of which there is at least one; the call waits as long as `waits` allow.
    pub(crate) fn new(parts: VecDeque<P>, waits: Waits, results: A) -> Turns<P, A> {
        assert!(
            !parts.is_empty(),
            "a call without parts has its results already"
        );
        Turns {
            state: Mutex::new(State {
                waiting: parts,
                running: 0,
                beginning: false,
                waits,
                results: Some(results),
            }),
        }
    }

    /// Begins the parts whose turn it is, with what the call may still wait.
    pub(crate) fn begin(&self, begin: impl Fn(P, Waits)) {
        if std::mem::replace(&mut self.state.lock().beginning, true) {
            return;
        }
        while let Some((part, waits)) = self.next() {
            begin(part, waits);
        }
    }

    fn next(&self) -> Option<(P, Waits)> {
        let mut state = self.state.lock();
        let next = match state.running < TOGETHER {
            true => state.waiting.pop_front(),
            false => None,
        };
        match next {
            Some(part) => {
                state.running += 1;
                Some((part, state.waits))
            }
            None => {
                state.beginning = false;
                None
            }
        }
    }

    /// Records what the call has waited.
    pub(crate) fn waited(&self, waits: Waits) {
        self.state.lock().waits = waits;
    }

    /// Takes the parts that have not begun, each of which the caller ends: the device has missed the
    /// deadline of the call.
    pub(crate) fn give_up(&self) -> VecDeque<P> {
        let mut state = self.state.lock();
        state.running += state.waiting.len();
        std::mem::take(&mut state.waiting)
    }

    /// Ends a part, whose results `add` adds. Returns all of them after the last part; otherwise
    /// [`Turns::begin`] follows.
    pub(crate) fn end(&self, add: impl FnOnce(&mut A)) -> Option<A> {
        let mut state = self.state.lock();
        let results = state.results.as_mut();
        add(results.expect("a part has its results once"));
        state.running -= 1;
        match state.running == 0 && state.waiting.is_empty() {
            true => state.results.take(),
            false => None,
        }
    }
}
