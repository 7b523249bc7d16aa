//! The free list against a queue and a set.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u32),
    Pop,
    Remove(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..40_u32).prop_map(Step::Push),
        3 => Just(Step::Pop),
        1 => (0..40_u32).prop_map(Step::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_a_naive_model(steps in prop::collection::vec(step(), 0..200)) {
        let runs = [3..11, 11..14, 20..33];
        let mut list = FreeList::new(&runs);
        let mut model: VecDeque<u32> = VecDeque::new();
        let mut rejected = 0;
        for step in steps {
            match step {
                Step::Push(slot) => {
                    let known = runs.iter().any(|run| run.contains(&slot));
                    let fits = known && !model.contains(&slot);
                    prop_assert_eq!(list.push(slot), fits);
                    if fits { model.push_back(slot) } else { rejected += 1 }
                }
                Step::Pop => prop_assert_eq!(list.pop(), model.pop_front()),
                Step::Remove(slot) => {
                    let at = model.iter().position(|&other| other == slot);
                    prop_assert_eq!(list.remove(slot), at.is_some());
                    at.map(|at| model.remove(at));
                }
            }
            prop_assert!(list.iter().eq(model.iter().copied()));
            prop_assert_eq!((list.len() as usize, list.rejected()), (model.len(), rejected));
            prop_assert_eq!(list.check(), Ok(()));
        }
    }
}
