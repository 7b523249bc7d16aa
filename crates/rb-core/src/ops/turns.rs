//! An async call in parts: a few of them run at once, in order, and the next one begins when one has
//! ended. So a large call takes its turns with other calls, and does not compete with itself.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use crate::core::waits::Waits;

/// The time of the driver at which the first request of a call started. The deadline of all parts of
/// the call counts from there.
pub(crate) type Begun = Arc<OnceLock<Duration>>;

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

    /// Records what a part of the call has waited. Parts that wait together have one wait, the longest.
    pub(crate) fn waited(&self, waits: Waits) {
        let mut state = self.state.lock();
        state.waits = state.waits.longer(waits);
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

#[cfg(test)]
mod tests {
    use rb_io::Patience;

    use super::*;

    /// Regression test: of two parts that waited together the one that ended last decided how long the call had waited,
    /// although the other one had waited longer: the next part had more patience than the call.
    #[test]
    fn a_call_has_waited_as_long_as_any_of_its_parts() {
        let limit = Duration::from_secs(8);
        let after = |seconds| {
            let mut resources = Patience::new(limit);
            resources.charge(Duration::from_secs(seconds));
            Waits {
                resources,
                device: Patience::new(limit),
            }
        };
        let turns = Turns::new(VecDeque::from([1, 2, 3]), after(0), ());
        assert!(turns.next().is_some() && turns.next().is_some());
        assert!(turns.next().is_none(), "two at a time");
        for (waited, left) in [(5, 3), (1, 3), (6, 2)] {
            turns.waited(after(waited));
            let waits = turns.state.lock().waits;
            assert_eq!(waits.resources.left(), Duration::from_secs(left));
            assert_eq!(waits.device.left(), limit);
        }
        assert!(turns.end(|()| ()).is_none());
        assert_eq!(turns.next().map(|(part, _)| part), Some(3));
    }
}
