//! Slot ownership: the state and class of each slot, and the free lists.
//!
//! ```text
//!            take_free            publish              release of the last lease
//!    free ------------> reserved ---------> live -------> retired -------> free
//!     |  <------------     |   <---------    |  --------------------------->
//!     |    give_back       |     evict          remove, replace, invalidate
//!    bad <--- quarantined <+ quarantine
//!     |       | settle
//!     |       +--> free
//!     +--- forgive ----> free
//!
//!    free ---- take_freed ---> discarding ---- discarded ----> free
//! ```
//!
//! The slot of a replaced or removed entry is free, but waits until the record of that change is
//! durable ([`crate::free_list`]): if it were reused earlier, a crash could lose both the old value
//! and the new one.
//!
//! A state changes by compare-and-exchange from the state that its one owner left it in, and the
//! counters change in the same step. A transition from any other state is a bug of the caller: it
//! is refused, counted, and reported by the audit.

use std::ops::Range;

use crate::entry::CLASS_LIMIT;
use crate::error::IndexError;
use crate::free_list::{ANYWHERE, FreeList, Hold};
use crate::memory::NoMemory;
use crate::stats::ClassStats;
use crate::sync::{AtomicU8, Guard, Lock, Ordering, Tally, zeros};

/// The number of a slot. The layout maps it to device bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct SlotId(pub u32);

/// The outcome of a quarantine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nothing can land on the slot any more; it may be used again.
    Free,
    /// The slot failed too often and must not be used again.
    Bad,
}

/// Means "no slot": ends of runs are exclusive, so no run can contain it.
pub(crate) const NO_SLOT: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    Free = 0,
    Reserved = 1,
    Live = 2,
    Retired = 3,
    Quarantined = 4,
    Bad = 5,
    Discarding = 6,
}

pub(crate) const STATES: usize = 7;
/// The state of a number that lies between runs and is not a slot.
const ABSENT: u8 = u8::MAX;
const _: () = assert!(State::Free as u8 == 0, "fresh states are zeros");

#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) slots: Range<u32>,
    pub(crate) class: u8,
}

/// The slots of one class; aligned so that two classes do not share a cache line.
#[repr(align(128))]
#[derive(Debug)]
struct Class {
    free: Lock<FreeList>,
    /// Slots taken before the change that freed them was durable.
    early: Tally,
    counts: [Tally; STATES],
    capacity: u64,
}

#[derive(Debug)]
pub(crate) struct Slots {
    states: Box<[AtomicU8]>,
    /// Ascending by slot.
    runs: Box<[Run]>,
    classes: Box<[Class]>,
    illegal: Tally,
    /// The highest ticket whose changes are durable. It only rises, and a thread that reads an old
    /// value merely waits longer.
    pub(crate) durable: Tally,
    /// The last generation drawn for each slot.
    #[cfg(debug_assertions)]
    drawn: Box<[Tally]>,
}

impl Slots {
    /// Creates the slots of these runs, all free; see [`checked_runs`].
    pub(crate) fn new(runs: Vec<Run>, classes: usize) -> Result<Slots, NoMemory> {
        let end = runs.last().map_or(0, |run| run.slots.end) as usize;
        let states = zeros(end)?;
        let mut before = 0;
        for Run { slots, .. } in &runs {
            for between in &states[before..slots.start as usize] {
                between.store(ABSENT, Ordering::Relaxed);
            }
            before = slots.end as usize;
        }
        let owned = (0..classes).map(|class| {
            let of_class = runs.iter().filter(|run| usize::from(run.class) == class);
            Class::all_free(&of_class.map(|run| run.slots.clone()).collect::<Vec<_>>())
        });
        Ok(Slots {
            #[cfg(debug_assertions)]
            drawn: crate::memory::zeroed(end)?,
            durable: Tally::default(),
            classes: owned.collect::<Result<_, _>>()?,
            states,
            runs: runs.into_boxed_slice(),
            illegal: Tally::default(),
        })
    }

    /// Passes every part of the state with its name to `show`; excludes reported statistics.
    pub(crate) fn each_part(&self, show: &mut dyn FnMut(&str, std::fmt::Arguments<'_>)) {
        let Slots {
            states,
            runs: _,
            classes,
            illegal,
            durable,
            #[cfg(debug_assertions)]
                drawn: _,
        } = self;
        for (number, class) in classes.iter().enumerate() {
            let Class {
                free,
                early: _,
                counts,
                capacity: _,
            } = class;
            show(
                &format!("class {number}"),
                format_args!("{:?}", (&*free.lock(), counts)),
            );
        }
        show("slots", format_args!("{:?}", (states, illegal, durable)));
    }

    pub(crate) fn classes(&self) -> usize {
        self.classes.len()
    }

    /// Returns one more than the highest slot id.
    pub(crate) fn end(&self) -> u32 {
        self.states.len() as u32
    }

    pub(crate) fn class_of(&self, slot: u32) -> Option<u8> {
        let after = self.runs.partition_point(|run| run.slots.start <= slot);
        let run = self.runs.get(after.checked_sub(1)?)?;
        run.slots.contains(&slot).then_some(run.class)
    }

    /// Returns the class of these slots; `None` if one does not exist or is of another class.
    pub(crate) fn class_of_all(&self, slots: impl Iterator<Item = SlotId>) -> Option<u8> {
        let mut classes = slots.map(|slot| self.class_of(slot.0));
        let class = classes.next()??;
        classes.all(|other| other == Some(class)).then_some(class)
    }

    pub(crate) fn illegal(&self) -> u64 {
        self.illegal.get()
    }

    /// Returns the number of slots that the free lists refused.
    pub(crate) fn rejected(&self) -> u64 {
        self.classes
            .iter()
            .map(|class| class.free.lock().rejected())
            .sum()
    }

    /// Returns the state byte of a slot, for the audit; `None` if there is no such slot.
    pub(crate) fn state(&self, slot: u32) -> Option<u8> {
        let state = self.states.get(slot as usize)?.load(Ordering::Acquire);
        (state != ABSENT).then_some(state)
    }

    /// Passes the address of a slot's state to `fetch`.
    pub(crate) fn fetch(&self, slot: u32, fetch: fn(*const u8)) {
        if let Some(state) = self.states.get(slot as usize) {
            fetch(std::ptr::from_ref(state).cast());
        }
    }

    /// Moves a slot from one state to another. A refusal is counted as a bug, and panics in a debug
    /// build.
    pub(crate) fn change(&self, slot: u32, from: State, to: State) -> bool {
        let changed = self.try_change(slot, from, to);
        if !changed {
            self.count_illegal();
        }
        changed
    }

    /// Moves a slot like `change`, but a refusal is a valid result and not a bug.
    pub(crate) fn try_change(&self, slot: u32, from: State, to: State) -> bool {
        let Some(class) = self.class_of(slot) else {
            return false;
        };
        let changed = self.try_change_uncounted(slot, from, to);
        self.count_changes(class, from, to, changed.into());
        changed
    }

    /// Moves a slot like `try_change`, but leaves the counting to `count_changes`: threads that
    /// change many slots would spend more time on the shared counters than on the slots.
    pub(crate) fn try_change_uncounted(&self, slot: u32, from: State, to: State) -> bool {
        self.states.get(slot as usize).is_some_and(|state| {
            let (from, to) = (from as u8, to as u8);
            let exchanged = state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
            exchanged.is_ok()
        })
    }

    /// Counts `slots` transitions of slots of a class.
    pub(crate) fn count_changes(&self, class: u8, from: State, to: State, slots: u64) {
        if slots > 0 {
            let counts = &self.classes[usize::from(class)].counts;
            counts[from as usize].subtract(slots);
            counts[to as usize].add(slots);
        }
    }

    pub(crate) fn count_early(&self, class: u8, slots: u64) {
        if let Some(class) = self.classes.get(usize::from(class)) {
            class.early.add(slots);
        }
    }

    /// Counts a call that broke the rules of ownership.
    pub(crate) fn count_illegal(&self) {
        self.illegal.add(1);
        // This crate's own tests break the rules on purpose, to check the count.
        #[cfg(all(debug_assertions, not(test)))]
        panic!("illegal slot transition: a slot has two owners or none");
    }

    /// Frees a slot that held bytes, last written with `placement`, and puts it at the end of its
    /// class's free list, or among those that wait for `hold`.
    pub(crate) fn free_from(&self, slot: u32, from: State, placement: u16, hold: Hold) {
        let Some(class) = self.class_of(slot) else {
            self.count_illegal();
            return;
        };
        let mut free = self.lock_free(class);
        if self.change(slot, from, State::Free) {
            free.push_used(slot, placement, hold, self.durable.get());
        }
    }

    /// Frees discarded slots; takes one lock per run of slots of the same class.
    pub(crate) fn free_discarded(&self, slots: &[SlotId]) {
        let of_class = slots.chunk_by(|a, b| self.class_of(a.0) == self.class_of(b.0));
        for group in of_class {
            let Some(class) = group.first().and_then(|slot| self.class_of(slot.0)) else {
                group.iter().for_each(|_| self.count_illegal());
                continue;
            };
            let mut free = self.lock_free(class);
            for &SlotId(slot) in group {
                if self.change(slot, State::Discarding, State::Free) {
                    free.push(slot, ANYWHERE);
                }
            }
        }
    }

    /// Checks that a generation is drawn for a slot owned by its put, and after those of all former
    /// owners.
    pub(crate) fn check_drawn(&self, slot: u32, generation: u64) {
        debug_assert_eq!(
            self.state(slot),
            Some(State::Reserved as u8),
            "a generation is drawn for slot {slot}, which no put has taken"
        );
        #[cfg(debug_assertions)]
        if let Some(drawn) = self.drawn.get(slot as usize) {
            let former = drawn.get();
            assert!(
                former < generation,
                "generation {generation} is drawn for slot {slot}, whose former owner has {former}"
            );
            drawn.set(generation);
        }
        #[cfg(not(debug_assertions))]
        let _ = generation;
    }

    /// Takes up to `n` free slots, chosen by `pop` under the lock of their list; they change to
    /// `to`.
    pub(crate) fn take_free(
        &self,
        class: u8,
        n: usize,
        to: State,
        mut pop: impl FnMut(&mut FreeList) -> Option<u32>,
        out: &mut Vec<SlotId>,
    ) -> usize {
        if n == 0 || usize::from(class) >= self.classes.len() {
            return 0;
        }
        let mut free = self.lock_free(class);
        let mut taken = 0;
        while taken < n
            && let Some(slot) = pop(&mut free)
        {
            if self.change(slot, State::Free, to) {
                out.push(SlotId(slot));
                taken += 1;
            }
        }
        taken
    }

    /// Takes one given slot out of the free list.
    pub(crate) fn take_named(&self, slot: u32, to: State) -> bool {
        let Some(class) = self.class_of(slot) else {
            return false;
        };
        let mut free = self.lock_free(class);
        free.remove(slot) && self.change(slot, State::Free, to)
    }

    /// Rebuilds the free lists from the states, in slot order.
    pub(crate) fn relist_free(&self) {
        for class in &self.classes {
            class.free.lock().clear();
        }
        for Run { slots, class } in &self.runs {
            let mut list = self.lock_free(*class);
            let is_free = |slot: u32| self.state(slot) == Some(State::Free as u8);
            let mut rest = slots.clone();
            while let Some(first) = rest.find(|&slot| is_free(slot)) {
                let end = rest.find(|&slot| !is_free(slot)).unwrap_or(slots.end);
                list.push_run(first..end);
            }
        }
    }

    /// Returns the runs in slot order.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(crate) fn lock_free(&self, class: u8) -> Guard<'_, FreeList> {
        self.classes[usize::from(class)].free.lock()
    }

    pub(crate) fn class_stats(&self, class: usize) -> ClassStats {
        let Class {
            counts,
            capacity,
            early,
            ..
        } = &self.classes[class];
        let of = |state: State| counts[state as usize].get();
        ClassStats {
            capacity: *capacity,
            taken_early: early.get(),
            free: of(State::Free),
            reserved: of(State::Reserved),
            live: of(State::Live),
            retired: of(State::Retired),
            quarantined: of(State::Quarantined),
            bad: of(State::Bad),
            discarding: of(State::Discarding),
        }
    }
}

impl Class {
    fn all_free(runs: &[Range<u32>]) -> Result<Class, NoMemory> {
        let mut free = FreeList::new(runs)?;
        for run in runs {
            free.push_run(run.clone());
        }
        let capacity = u64::from(free.len());
        let counts: [Tally; STATES] = std::array::from_fn(|_| Tally::default());
        counts[State::Free as usize].set(capacity);
        Ok(Class {
            free: Lock::new(free),
            early: Tally::default(),
            counts,
            capacity,
        })
    }
}

/// Returns the runs of all classes in slot order, none empty, none overlapping.
pub(crate) fn checked_runs(classes: &[Vec<Range<u32>>]) -> Result<Vec<Run>, IndexError> {
    if classes.is_empty() || classes.len() > CLASS_LIMIT {
        return Err(IndexError::ClassCount {
            classes: classes.len(),
            limit: CLASS_LIMIT,
        });
    }
    let mut runs = Vec::new();
    for (class, slots) in classes.iter().enumerate() {
        for slots in slots {
            let Range { start, end } = *slots;
            if start > end {
                return Err(IndexError::ReversedRun { class, start, end });
            }
            if start < end {
                runs.push(Run {
                    slots: slots.clone(),
                    class: class as u8,
                });
            }
        }
    }
    runs.sort_by_key(|run| run.slots.start);
    for pair in runs.windows(2) {
        if let [first, second] = pair
            && second.slots.start < first.slots.end
        {
            let slot = second.slots.start;
            return Err(IndexError::Overlap {
                slot,
                first: first.class,
                second: second.class,
            });
        }
    }
    Ok(runs)
}
