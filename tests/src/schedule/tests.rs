//! Tests of every interleaving of small operations, deadlocks, panics, and operations of a store.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use rb_core::{HeldLock, SwitchPoint};

use super::threads::lock;
use super::{Baton, Chooser, Next, Outcome, Place, Standing, Wait, Work};

const STEP: Place = Place::At(SwitchPoint::Reserved);

/// Tries the alternatives of each decision in turn, depth first: after a run, [`Answers::next`] sets the last decision
/// that is not exhausted to its successor.
#[derive(Default)]
struct Answers {
    /// For each decision, the alternative taken and the number of alternatives.
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Answers {
    fn choose(&mut self, count: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, count));
        }
        self.at += 1;
        self.taken[self.at - 1].0
    }

    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((answer, count)) = self.taken.pop() {
            if answer + 1 < count {
                self.taken.push((answer + 1, count));
                return true;
            }
        }
        false
    }
}

/// Continues with the running operation, a suspended one or the next new one, as the answers say.
struct All {
    new: Vec<(&'static str, Work)>,
    answers: Arc<Mutex<Answers>>,
}

impl Chooser<&'static str> for All {
    fn next(
        &mut self,
        running: Option<Standing<&'static str>>,
        suspended: &[Standing<&'static str>],
    ) -> Next<&'static str> {
        let mut able: Vec<_> = running
            .iter()
            .chain(suspended)
            .filter(|one| !one.stuck)
            .collect();
        able.sort_by_key(|one| one.id);
        let count = able.len() + usize::from(!self.new.is_empty());
        if count == 0 {
            return Next::Stop;
        }
        let answer = lock(&self.answers).choose(count);
        match able.get(answer) {
            Some(one) if running.is_some_and(|running| running.id == one.id) => Next::GoOn,
            Some(one) => Next::Resume(one.id),
            None => {
                let (kind, work) = self.new.remove(0);
                Next::Start(kind, work)
            }
        }
    }
}

/// Runs the operations in every order, and passes on each order's outcome.
fn every_order(
    operations: impl Fn(&Arc<Baton<&'static str>>) -> Vec<(&'static str, Work)>,
    mut each: impl FnMut(Outcome),
) {
    let answers = Arc::new(Mutex::new(Answers::default()));
    loop {
        let baton = Arc::new(Baton::default());
        let new = operations(&baton);
        let outcome = baton.run(All {
            new,
            answers: Arc::clone(&answers),
        });
        each(outcome);
        if !lock(&answers).next() {
            return;
        }
    }
}

#[test]
fn every_interleaving_of_two_operations_is_run_once() {
    let orders = Arc::new(Mutex::new(String::new()));
    let mut seen = Vec::new();
    let operations = |baton: &Arc<Baton<&'static str>>| {
        let operation = |name: &'static str| {
            let (baton, orders) = (Arc::clone(baton), Arc::clone(&orders));
            let work = move || {
                for _ in 0..2 {
                    lock(&orders).push_str(name);
                    baton.reach(STEP);
                }
            };
            (name, Box::new(work) as Work)
        };
        vec![operation("a"), operation("b")]
    };
    every_order(operations, |outcome| {
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        seen.push(std::mem::take(&mut *lock(&orders)));
    });
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    let all = ["aabb", "abab", "abba"].map(str::to_owned);
    assert!(distinct.is_superset(&BTreeSet::from(all)), "{distinct:?}");
    // The first operation begins first; each of its 2 steps may be followed by the other's.
    assert_eq!(distinct.len(), 3, "{distinct:?}");
}

#[test]
fn operations_that_wait_for_each_other_are_reported() {
    let held = Arc::new(Mutex::new([false; 2]));
    let mut deadlocks = 0;
    let mut ends = 0;
    let operations = |baton: &Arc<Baton<&'static str>>| {
        *lock(&held) = [false; 2];
        let operation = |name: &'static str, first: usize| {
            let (baton, held) = (Arc::clone(baton), Arc::clone(&held));
            let work = move || {
                for at in [first, 1 - first] {
                    baton.wait_until(Wait::Lock(HeldLock::Flush), || {
                        !std::mem::replace(&mut lock(&held)[at], true)
                    });
                    baton.reach(STEP);
                }
                *lock(&held) = [false; 2];
            };
            (name, Box::new(work) as Work)
        };
        vec![operation("a", 0), operation("b", 1)]
    };
    every_order(operations, |outcome| match &outcome.failures[..] {
        [] => ends += 1,
        [why] => {
            assert!(outcome.broken);
            assert!(
                why.starts_with("a deadlock: \"a\" 0 at Waits(Lock(Flush)), \"b\" 1"),
                "{why}"
            );
            deadlocks += 1;
        }
        more => panic!("{more:?}"),
    });
    assert!(
        deadlocks > 0 && ends > 0,
        "{deadlocks} deadlocks, {ends} ends"
    );
}

#[test]
fn a_panic_is_reported_and_the_others_go_on() {
    let went_on = Arc::new(Mutex::new(0));
    let operations = |baton: &Arc<Baton<&'static str>>| {
        let (first, second) = (Arc::clone(baton), Arc::clone(&went_on));
        let baton = Arc::clone(baton);
        let panics = move || {
            first.reach(STEP);
            assert!(first.current().is_none(), "words");
        };
        let ends = move || {
            baton.reach(STEP);
            *lock(&second) += 1;
        };
        vec![
            ("panics", Box::new(panics) as Work),
            ("ends", Box::new(ends) as Work),
        ]
    };
    let mut runs = 0;
    every_order(operations, |outcome| {
        assert_eq!(outcome.failures, ["a panic in \"panics\": words"]);
        assert!(!outcome.broken);
        runs += 1;
    });
    assert_eq!(*lock(&went_on), runs);
}

#[test]
fn a_chooser_that_cannot_be_followed_is_reported() {
    struct Wrong;
    impl Chooser<&'static str> for Wrong {
        fn next(
            &mut self,
            _: Option<Standing<&'static str>>,
            _: &[Standing<&'static str>],
        ) -> Next<&'static str> {
            Next::Resume(7)
        }
    }
    let outcome = Arc::new(Baton::default()).run(Wrong);
    assert!(outcome.broken);
    assert_eq!(outcome.failures, ["7 cannot continue; "]);
}
