//! The free list against naive queues and a set.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u32, u16),
    PushUsed(u32, u16),
    Pop(u16),
    Mark,
    PopDue,
    Remove(u32),
    Discards(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (slots, ids) = (0..40_u32, 0..3_u16);
    prop_oneof![
        4 => (slots.clone(), ids.clone()).prop_map(|(slot, id)| Step::Push(slot, id)),
        4 => (slots.clone(), ids.clone()).prop_map(|(slot, id)| Step::PushUsed(slot, id)),
        4 => ids.prop_map(Step::Pop),
        1 => Just(Step::Mark),
        2 => Just(Step::PopDue),
        1 => slots.prop_map(Step::Remove),
        1 => any::<bool>().prop_map(Step::Discards),
    ]
}

/// A free slot: its placement id, or whether its discard is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ready(u16),
    Waiting { due: bool },
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_naive_model(steps in prop::collection::vec(step(), 0..200)) {
        let runs = [3..11, 11..14, 20..33];
        let mut list = FreeList::new(&runs);
        let mut model: VecDeque<(u32, Kind)> = VecDeque::new();
        let (mut rejected, mut discards) = (0, false);
        for step in steps {
            match step {
                Step::Push(slot, id) | Step::PushUsed(slot, id) => {
                    let known = runs.iter().any(|run| run.contains(&slot));
                    let fits = known && !model.iter().any(|(other, _)| *other == slot);
                    let used = matches!(step, Step::PushUsed(..));
                    let pushed = if used { list.push_used(slot, id) } else { list.push(slot, id) };
                    prop_assert_eq!(pushed, fits);
                    let waits = used && discards;
                    let kind = if waits { Kind::Waiting { due: false } } else { Kind::Ready(id) };
                    if fits { model.push_back((slot, kind)) } else { rejected += 1 }
                }
                Step::Pop(id) => {
                    let found = list.pop(id);
                    let rank = |kind: Kind| match kind {
                        Kind::Ready(other) if other == id => 0,
                        Kind::Ready(ANYWHERE) => 1,
                        Kind::Ready(_) => 2,
                        Kind::Waiting { .. } => 3,
                    };
                    let best = model.iter().map(|(_, kind)| rank(*kind)).min();
                    let at = model.iter().position(|(slot, _)| Some(*slot) == found);
                    prop_assert_eq!(at.is_some(), best.is_some());
                    let Some((slot, kind)) = at.and_then(|at| model.remove(at)) else { continue };
                    prop_assert_eq!(Some(rank(kind)), best);
                    // The first of its kind; a due one counts as waiting.
                    let same = |other: Kind| match (kind, other) {
                        (Kind::Waiting { .. }, Kind::Waiting { .. }) => true,
                        _ => kind == other,
                    };
                    let earlier = model.iter().take(at.unwrap_or(0)).any(|(_, other)| same(*other));
                    prop_assert!(!earlier, "slot {} has not been free longest", slot);
                }
                Step::Mark => {
                    let came = list.came();
                    list.set_due(came);
                    for (_, kind) in &mut model {
                        if let Kind::Waiting { due } = kind { *due = true }
                    }
                }
                Step::PopDue => {
                    let due = |(_, kind): &(u32, Kind)| *kind == Kind::Waiting { due: true };
                    let expected = model.iter().find(|waiting| due(waiting)).map(|(slot, _)| *slot);
                    let found = list.pop_due();
                    // After a removal from the middle one may wait for another mark.
                    prop_assert!(found == expected || found.is_none());
                    model.retain(|(slot, _)| Some(*slot) != found);
                }
                Step::Remove(slot) => {
                    let at = model.iter().position(|&(other, _)| other == slot);
                    prop_assert_eq!(list.remove(slot), at.is_some());
                    at.map(|at| model.remove(at));
                }
                Step::Discards(on) => {
                    discards = on;
                    list.set_discards(on);
                    let (waiting, mut ready): (VecDeque<_>, VecDeque<_>) = model
                        .drain(..)
                        .partition(|(_, kind)| !on && matches!(kind, Kind::Waiting { .. }));
                    ready.extend(waiting.into_iter().map(|(slot, _)| (slot, Kind::Ready(ANYWHERE))));
                    model = ready;
                }
            }
            let mut slots: Vec<u32> = list.iter().collect();
            let mut known: Vec<u32> = model.iter().map(|(slot, _)| *slot).collect();
            slots.sort_unstable();
            known.sort_unstable();
            prop_assert_eq!(slots, known);
            prop_assert_eq!((list.len() as usize, list.rejected()), (model.len(), rejected));
            prop_assert_eq!(list.check(), Ok(()));
        }
    }
}

/// What was freed after the mark may not be discarded: its record may not be durable.
#[test]
fn only_what_came_before_the_mark_is_due() {
    let mut list = FreeList::new(std::slice::from_ref(&(0..8)));
    list.set_discards(true);
    list.push_used(1, 7);
    let mark = list.came();
    list.push_used(2, 7);
    assert_eq!(list.pop_due(), None, "nothing is due before it is said");
    list.set_due(mark);
    assert_eq!((list.pop_due(), list.pop_due()), (Some(1), None));
    assert_eq!(list.pop(7), Some(2), "a slot that waits can be taken");
}
