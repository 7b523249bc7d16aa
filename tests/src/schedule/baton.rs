//! The baton: the operation that holds it runs.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use super::chooser::{Chooser, Kind, Next, Standing, Work};
use super::place::{Place, Wait};
use super::threads::{Seat, lock, spawn};

/// Maximum number of steps of one run: more means that operations only wait for each other.
const STEPS_MAX: u64 = 10_000_000;

thread_local! {
    /// The baton and the number of the operation that runs in this thread.
    static CURRENT: Cell<Option<(usize, u64)>> = const { Cell::new(None) };
}

/// Result of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Panics of operations, and the reason why the run could not continue.
    pub failures: Vec<String>,
    /// True if the run could not continue. Its suspended operations stay suspended until the process ends, so their
    /// data must not be used any more.
    pub broken: bool,
}

/// Runs operations one at a time. Runs must not overlap.
pub struct Baton<K> {
    state: Mutex<State<K>>,
}

struct State<K> {
    chooser: Option<Box<dyn Chooser<K>>>,
    operations: Vec<Operation<K>>,
    begun: u64,
    /// Steps that operations have advanced; a wait that continues is not a step.
    steps: u64,
    outcome: Outcome,
    /// The thread that waits for the run.
    caller: Option<Arc<Seat>>,
}

struct Operation<K> {
    id: u64,
    kind: K,
    place: Option<Place>,
    /// The step at which it last checked its wait condition.
    looked: Option<u64>,
    seat: Arc<Seat>,
}

/// Decision of who runs next, checked.
enum Decision<K> {
    Same,
    Other(Arc<Seat>),
    New(K, Work),
    /// The run is over, or broken: its caller is woken.
    Over(Option<Arc<Seat>>),
}

impl<K: Kind> Default for Baton<K> {
    fn default() -> Self {
        Baton {
            state: Mutex::new(State {
                chooser: None,
                operations: Vec::new(),
                begun: 0,
                steps: 0,
                outcome: Outcome::default(),
                caller: None,
            }),
        }
    }
}

impl<K: Kind> Baton<K> {
    /// Runs operations as the chooser decides, until it decides to stop.
    ///
    /// # Panics
    /// If a run is under way, or an earlier one is broken.
    pub fn run(self: &Arc<Self>, chooser: impl Chooser<K> + 'static) -> Outcome {
        let seat = Seat::new();
        {
            let mut state = lock(&self.state);
            assert!(
                state.caller.is_none() && !state.outcome.broken,
                "one run at a time, and none after one that is broken"
            );
            state.chooser = Some(Box::new(chooser));
            state.caller = Some(Arc::clone(&seat));
            state.steps = 0;
        }
        match self.decide(None) {
            Decision::New(kind, work) => {
                let baton = Arc::clone(self);
                spawn(Box::new(move || baton.work(kind, work)));
                seat.wait();
            }
            Decision::Same | Decision::Other(_) | Decision::Over(_) => {}
        }
        let mut state = lock(&self.state);
        state.caller = None;
        state.chooser = None;
        let failures = std::mem::take(&mut state.outcome.failures);
        Outcome {
            failures,
            broken: state.outcome.broken,
        }
    }

    /// Returns the number of this baton's operation that runs in the calling thread.
    #[must_use]
    pub fn current(&self) -> Option<u64> {
        let (baton, id) = CURRENT.get()?;
        (baton == self.address()).then_some(id)
    }

    /// The operation that runs in the calling thread stands at a place: another one may run. Returns when this one
    /// continues. In other threads this does nothing.
    pub fn reach(self: &Arc<Self>, place: Place) {
        let Some(id) = self.current() else { return };
        {
            let mut state = lock(&self.state);
            let again = matches!(place, Place::Waits(_))
                && state
                    .operation(id)
                    .is_some_and(|op| op.place == Some(place));
            state.steps += u64::from(!again);
            let steps = state.steps;
            if let Some(operation) = state.operation(id) {
                operation.place = Some(place);
                operation.looked = matches!(place, Place::Waits(_)).then_some(steps);
            }
        }
        let seat = match self.decide(Some(id)) {
            Decision::Same => return,
            Decision::Other(seat) => seat,
            Decision::New(kind, work) => {
                let baton = Arc::clone(self);
                spawn(Box::new(move || baton.work(kind, work)));
                return self.wait(id);
            }
            Decision::Over(caller) => {
                caller.inspect(|caller| caller.go());
                return self.wait(id);
            }
        };
        seat.go();
        self.wait(id);
    }

    /// Lets other operations run until `ready`. Only in an operation of this baton: elsewhere nothing could change.
    ///
    /// # Panics
    /// If it is not `ready` in another thread.
    pub fn wait_until(self: &Arc<Self>, what: Wait, ready: impl Fn() -> bool) {
        while !ready() {
            assert!(
                self.current().is_some(),
                "{what:?}: no other operation runs that could provide it"
            );
            self.reach(Place::Waits(what));
        }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Waits in the thread of an operation until it is given the baton.
    fn wait(&self, id: u64) {
        let seat = lock(&self.state)
            .operation(id)
            .map(|op| Arc::clone(&op.seat));
        seat.inspect(|seat| seat.wait());
    }

    /// Runs an operation in this thread, which has the baton, and others that begin when it has ended. Returns the
    /// thread to give the baton to.
    fn work(self: &Arc<Self>, kind: K, work: Work) -> Option<Arc<Seat>> {
        let (mut kind, mut work) = (kind, work);
        let seat = Seat::new();
        loop {
            let id = {
                let mut state = lock(&self.state);
                let id = state.begun;
                state.begun += 1;
                state.steps += 1;
                state.operations.push(Operation {
                    id,
                    kind,
                    place: None,
                    looked: None,
                    seat: Arc::clone(&seat),
                });
                id
            };
            CURRENT.set(Some((self.address(), id)));
            let ended = catch_unwind(AssertUnwindSafe(work));
            CURRENT.set(None);
            {
                let mut state = lock(&self.state);
                state.steps += 1;
                state.operations.retain(|operation| operation.id != id);
                if let Err(why) = ended {
                    let words = format!("a panic in {kind:?}: {}", words(why.as_ref()));
                    state.outcome.failures.push(words);
                }
            }
            match self.decide(None) {
                Decision::New(next, what) => (kind, work) = (next, what),
                Decision::Other(seat) => return Some(seat),
                Decision::Same | Decision::Over(None) => return None,
                Decision::Over(caller) => return caller,
            }
        }
    }

    /// Asks the chooser, holding no lock.
    fn decide(&self, running: Option<u64>) -> Decision<K> {
        let mut state = lock(&self.state);
        let mut all: Vec<Standing<K>> = state
            .operations
            .iter()
            .filter_map(|op| {
                Some(Standing {
                    id: op.id,
                    kind: op.kind,
                    place: op.place?,
                    stuck: op.looked.is_some_and(|looked| looked >= state.steps),
                })
            })
            .collect();
        if !all.is_empty() && all.iter().all(|standing| standing.stuck) {
            let words = format!("a deadlock: {}", list(&all));
            return state.breaks(words);
        }
        if state.steps > STEPS_MAX {
            let words = format!("no end after {STEPS_MAX} steps: {}", list(&all));
            return state.breaks(words);
        }
        let mine = all.iter().position(|standing| Some(standing.id) == running);
        let mine = mine.map(|at| all.remove(at));
        let Some(mut chooser) = state.chooser.take() else {
            return state.breaks("there is no chooser".into());
        };
        drop(state);
        let next = catch_unwind(AssertUnwindSafe(|| chooser.next(mine, &all)));
        let mut state = lock(&self.state);
        state.chooser = Some(chooser);
        match next {
            Err(why) => state.breaks(format!("a panic of the chooser: {}", words(why.as_ref()))),
            Ok(Next::GoOn) if mine.is_some_and(|mine| !mine.stuck) => Decision::Same,
            Ok(Next::Resume(id)) if all.iter().any(|one| one.id == id && !one.stuck) => {
                match state.operation(id) {
                    Some(operation) => Decision::Other(Arc::clone(&operation.seat)),
                    None => state.breaks(format!("there is no operation {id}")),
                }
            }
            Ok(Next::Start(kind, work)) => Decision::New(kind, work),
            Ok(Next::Stop) if mine.is_none() && all.is_empty() => {
                Decision::Over(state.caller.clone())
            }
            Ok(Next::GoOn) => state.breaks(format!("{mine:?} should continue, and cannot")),
            Ok(Next::Resume(id)) => state.breaks(format!("{id} cannot continue; {}", list(&all))),
            Ok(Next::Stop) => state.breaks(format!("stopped among operations: {}", list(&all))),
        }
    }
}

impl<K: Kind> State<K> {
    fn operation(&mut self, id: u64) -> Option<&mut Operation<K>> {
        self.operations
            .iter_mut()
            .find(|operation| operation.id == id)
    }

    /// Ends a run that cannot continue.
    fn breaks(&mut self, words: String) -> Decision<K> {
        self.outcome.failures.push(words);
        self.outcome.broken = true;
        Decision::Over(self.caller.clone())
    }
}

/// Lists operations and their places.
fn list<K: Kind>(all: &[Standing<K>]) -> String {
    let words = all.iter().map(
        |Standing {
             id, kind, place, ..
         }| format!("{kind:?} {id} at {place:?}"),
    );
    words.collect::<Vec<_>>().join(", ")
}

/// Returns the message of a panic.
pub(crate) fn words(why: &(dyn Any + Send)) -> String {
    let text = why.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| why.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".to_owned())
}
