//! The free list against naive queues and a set.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u32, u16),
    PushUsed(u32, u16, bool),
    Pop(u16),
    PopEarly,
    Durable,
    PopUndiscarded,
    Remove(u32),
    Discards(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (slots, ids) = (0..40_u32, 0..3_u16);
    prop_oneof![
        4 => (slots.clone(), ids.clone()).prop_map(|(slot, id)| Step::Push(slot, id)),
        4 => (slots.clone(), ids.clone(), any::<bool>())
            .prop_map(|(slot, id, strict)| Step::PushUsed(slot, id, strict)),
        4 => ids.prop_map(Step::Pop),
        1 => Just(Step::PopEarly),
        1 => Just(Step::Durable),
        2 => Just(Step::PopUndiscarded),
        1 => slots.prop_map(Step::Remove),
        1 => any::<bool>().prop_map(Step::Discards),
    ]
}

/// A free slot: its placement id, and what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ready(u16),
    Undiscarded,
    Waiting { id: u16, ticket: u64, strict: bool },
}

/// The naive model: every free slot with its kind, in the order in which the slots became that
/// kind.
#[derive(Default)]
struct Naive {
    free: VecDeque<(u32, Kind)>,
    durable: u64,
    ticket: u64,
    discards: bool,
}

impl Naive {
    fn freed(&self, id: u16) -> Kind {
        if self.discards {
            Kind::Undiscarded
        } else {
            Kind::Ready(id)
        }
    }

    fn end_holds(&mut self) {
        for strict in [false, true] {
            let ended = |kind: Kind| matches!(kind, Kind::Waiting { ticket, strict: s, .. } if s == strict && ticket <= self.durable);
            let (done, rest): (VecDeque<_>, VecDeque<_>) =
                self.free.drain(..).partition(|(_, kind)| ended(*kind));
            self.free = rest;
            for (slot, kind) in done {
                let Kind::Waiting { id, .. } = kind else {
                    continue;
                };
                let kind = self.freed(id);
                self.free.push_back((slot, kind));
            }
        }
    }

    fn first(&self, is_it: impl Fn(Kind) -> bool) -> Option<usize> {
        self.free.iter().position(|(_, kind)| is_it(*kind))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_naive_model(steps in prop::collection::vec(step(), 0..200)) {
        let runs = [3..11, 11..14, 20..33];
        let mut list = FreeList::new(&runs).unwrap();
        let mut model = Naive::default();
        let mut rejected = 0;
        for step in steps {
            match step {
                Step::Push(slot, id) | Step::PushUsed(slot, id, _) => {
                    let known = runs.iter().any(|run| run.contains(&slot));
                    let fits = known && !model.free.iter().any(|(other, _)| *other == slot);
                    let mut kind = Kind::Ready(id);
                    let pushed = if let Step::PushUsed(_, _, strict) = step {
                        model.ticket += 1;
                        let hold = Hold { ticket: model.ticket, strict };
                        kind = Kind::Waiting { id, ticket: model.ticket, strict };
                        list.push_used(slot, id, hold, model.durable)
                    } else {
                        list.push(slot, id)
                    };
                    prop_assert_eq!(pushed, fits);
                    if fits { model.free.push_back((slot, kind)) } else { rejected += 1 }
                }
                Step::Pop(id) => {
                    model.end_holds();
                    let found = list.pop(id, model.durable);
                    let rank = |kind: Kind| match kind {
                        Kind::Ready(other) if other == id => Some(0),
                        Kind::Ready(ANYWHERE) => Some(1),
                        Kind::Ready(_) => Some(2),
                        Kind::Undiscarded => Some(3),
                        Kind::Waiting { .. } => None,
                    };
                    let best = model.free.iter().filter_map(|(_, kind)| rank(*kind)).min();
                    let at = model.free.iter().position(|(slot, _)| Some(*slot) == found);
                    prop_assert_eq!(at.is_some(), best.is_some());
                    let Some((slot, kind)) = at.and_then(|at| model.free.remove(at)) else { continue };
                    prop_assert_eq!(rank(kind), best);
                    let earlier = model.free.iter().take(at.unwrap_or(0)).any(|(_, other)| *other == kind);
                    prop_assert!(!earlier, "slot {} has not been free longest", slot);
                }
                Step::PopEarly => {
                    let soft = |kind| matches!(kind, Kind::Waiting { strict: false, .. });
                    let expected = model.first(soft).and_then(|at| model.free.remove(at));
                    prop_assert_eq!(list.pop_early(), expected.map(|(slot, _)| slot));
                }
                Step::Durable => model.durable = model.ticket,
                Step::PopUndiscarded => {
                    model.end_holds();
                    let expected = model.first(|kind| kind == Kind::Undiscarded);
                    let expected = expected.and_then(|at| model.free.remove(at));
                    let found = list.pop_undiscarded(model.durable);
                    prop_assert_eq!(found, expected.map(|(slot, _)| slot));
                }
                Step::Remove(slot) => {
                    let at = model.free.iter().position(|&(other, _)| other == slot);
                    prop_assert_eq!(list.remove(slot), at.is_some());
                    at.map(|at| model.free.remove(at));
                }
                Step::Discards(on) => {
                    // Slots whose tickets are durable by now are settled first, in both.
                    model.end_holds();
                    list.is_waiting(model.durable);
                    model.discards = on;
                    list.set_discards(on);
                    let (waiting, mut ready): (VecDeque<_>, VecDeque<_>) = model
                        .free
                        .drain(..)
                        .partition(|(_, kind)| !on && *kind == Kind::Undiscarded);
                    ready.extend(waiting.into_iter().map(|(slot, _)| (slot, Kind::Ready(ANYWHERE))));
                    model.free = ready;
                }
            }
            let mut slots: Vec<u32> = list.iter_runs().flatten().collect();
            let mut known: Vec<u32> = model.free.iter().map(|(slot, _)| *slot).collect();
            slots.sort_unstable();
            known.sort_unstable();
            prop_assert_eq!(slots, known);
            prop_assert_eq!((list.len() as usize, list.rejected()), (model.free.len(), rejected));
            prop_assert_eq!(list.check(), Ok(()));
        }
    }
}
