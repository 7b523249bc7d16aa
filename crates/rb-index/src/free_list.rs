//! The free slots of one class: queues for the order, a set for membership.
//!
//! Slots leave in arrival order (FIFO), so wear and the age of old headers spread evenly. There is
//! one queue per placement id that free slots were last written with, so that a write can go to a
//! slot of the same placement. The queues hold runs of consecutive slots, not single slots: an
//! empty device is a handful of runs, and a full one has nothing free, so a live entry costs one
//! bit here. The set refuses a slot that is already free or belongs to another class; refusals are
//! counted, because each is a bug.
//!
//! A slot freed by a change waits until the record of that change is durable. Until then it is
//! taken only by callers that explicitly request such slots, and never if the change must be
//! durable before it is acknowledged.
//!
//! If freed slots are discarded, they then wait in a separate queue and are taken only if no other
//! slot is free: a put never waits for a discard.

use std::collections::VecDeque;
use std::ops::Range;

use crate::bits::Bits;
use crate::memory::NoMemory;

/// The placement id of slots written without one, or whose placement is not known.
pub(crate) const ANYWHERE: u16 = 0;

/// When a freed slot may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// After this ticket is durable.
    pub(crate) ticket: u64,
    /// True if the slot must not be used earlier, even if nothing else is free.
    pub(crate) strict: bool,
}

impl Hold {
    /// Immediately.
    pub(crate) const NONE: Hold = Hold {
        ticket: 0,
        strict: false,
    };
}

#[derive(Debug)]
pub(crate) struct FreeList {
    /// By placement id; [`ANYWHERE`] comes first.
    ready: Vec<(u16, Queue)>,
    /// Slots freed by changes that are not durable: those that may be taken early and those that
    /// may not, in arrival order, which is nearly that of their tickets.
    waiting: [VecDeque<Waiting>; 2],
    /// Slots whose freeing is durable, and that are neither discarded nor taken since. `None` if
    /// slots are not discarded: they become ready immediately.
    undiscarded: Option<Queue>,
    set: Bits,
    /// The runs of slot ids of this class, ascending, with the set position of their first slot.
    runs: Box<[(Range<u32>, u32)]>,
    len: u32,
    rejected: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: u64,
    slot: u32,
    placement: u16,
}

impl FreeList {
    /// Creates an empty list for the slots in `runs`, which are ascending and disjoint.
    pub(crate) fn new(runs: &[Range<u32>]) -> Result<FreeList, NoMemory> {
        let mut capacity = 0_u32;
        let with_positions = runs.iter().map(|run| {
            let position = capacity;
            capacity += run.end - run.start;
            (run.clone(), position)
        });
        let runs = with_positions.collect();
        Ok(FreeList {
            ready: vec![(ANYWHERE, Queue::default())],
            waiting: [VecDeque::new(), VecDeque::new()],
            undiscarded: None,
            set: Bits::new(capacity)?,
            runs,
            len: 0,
            rejected: 0,
        })
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Returns how often a slot was refused because it was already free or not of this class.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Adds a slot at the end of the queue of `placement`. Returns false, and counts it, if the
    /// slot is already free or not of this class.
    pub(crate) fn push(&mut self, slot: u32, placement: u16) -> bool {
        let taken = self.admit(slot);
        if taken {
            self.queue_of(placement).push(slot);
        }
        taken
    }

    /// Adds never-written slots of one run at the end.
    pub(crate) fn push_run(&mut self, slots: Range<u32>) {
        let Some(first) = self.position(slots.start) else {
            self.rejected += u64::from(slots.end - slots.start);
            return;
        };
        let len = slots.end - slots.start;
        match self.set.add(first..first + len) {
            true => {
                self.len += len;
                self.queue_of(ANYWHERE).push_run(slots);
            }
            false => self.rejected += u64::from(len),
        }
    }

    /// Adds a slot like [`FreeList::push`], for a slot whose contents are obsolete once `hold` has
    /// ended.
    pub(crate) fn push_used(
        &mut self,
        slot: u32,
        placement: u16,
        hold: Hold,
        durable: u64,
    ) -> bool {
        let taken = self.admit(slot);
        if taken && hold.ticket > durable {
            self.waiting[usize::from(hold.strict)].push_back(Waiting {
                ticket: hold.ticket,
                slot,
                placement,
            });
        } else if taken {
            self.free_durably(slot, placement);
        }
        taken
    }

    /// Takes the slot that has been free longest among those last written with `placement`; failing
    /// that, among those of unknown placement, the others, and those waiting for their discard.
    /// Never takes a slot that waits for a ticket above `durable`.
    pub(crate) fn pop(&mut self, placement: u16, durable: u64) -> Option<u32> {
        self.end_holds(durable);
        let own = self.ready.iter().position(|(id, _)| *id == placement);
        let order = own.into_iter().chain(0..self.ready.len());
        let mut ready = order.filter_map(|at| self.ready[at].1.pop());
        let slot = ready.next();
        let slot = slot.or_else(|| self.undiscarded.as_mut()?.pop())?;
        self.leave(slot);
        Some(slot)
    }

    /// Takes early a slot that waits for its ticket and is not held strictly.
    pub(crate) fn pop_early(&mut self) -> Option<u32> {
        let Waiting { slot, .. } = self.waiting[0].pop_front()?;
        self.leave(slot);
        Some(slot)
    }

    /// Takes the slot that has waited longest for its discard.
    pub(crate) fn pop_undiscarded(&mut self, durable: u64) -> Option<u32> {
        self.end_holds(durable);
        let slot = self.undiscarded.as_mut()?.pop()?;
        self.leave(slot);
        Some(slot)
    }

    /// Returns whether slots wait for tickets above `durable`.
    pub(crate) fn is_waiting(&mut self, durable: u64) -> bool {
        self.end_holds(durable);
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    /// Returns whether slots wait for their discard; `None` if slots are not discarded.
    pub(crate) fn has_undiscarded(&mut self, durable: u64) -> Option<bool> {
        self.end_holds(durable);
        Some(!self.undiscarded.as_ref()?.0.is_empty())
    }

    fn end_holds(&mut self, durable: u64) {
        for strict in 0..self.waiting.len() {
            while let Some(first) = self.waiting[strict].front().copied()
                && first.ticket <= durable
            {
                self.waiting[strict].pop_front();
                self.free_durably(first.slot, first.placement);
            }
        }
    }

    fn free_durably(&mut self, slot: u32, placement: u16) {
        match &mut self.undiscarded {
            Some(undiscarded) => undiscarded.push(slot),
            None => self.queue_of(placement).push(slot),
        }
    }

    /// Sets whether freed slots wait for a discard. Turning it off makes waiting slots ready.
    pub(crate) fn set_discards(&mut self, on: bool) {
        match (on, self.undiscarded.take()) {
            (true, waiting) => self.undiscarded = Some(waiting.unwrap_or_default()),
            (false, Some(waiting)) => {
                let ready = self.queue_of(ANYWHERE);
                waiting.iter().for_each(|slot| ready.push(slot));
            }
            (false, None) => {}
        }
    }

    /// Takes one given slot out of the middle; returns false if it is not free. Linear in the
    /// number of runs.
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        let queues = self.ready.iter_mut().map(|(_, queue)| queue);
        let mut queues = queues.chain(self.undiscarded.as_mut());
        let found = queues.any(|queue| queue.remove(slot))
            || self.waiting.iter_mut().any(|waiting| {
                let at = waiting.iter().position(|waiting| waiting.slot == slot);
                at.and_then(|at| waiting.remove(at)).is_some()
            });
        if found {
            self.leave(slot);
        }
        found
    }

    /// Removes all slots, so that the list can be refilled.
    pub(crate) fn clear(&mut self) {
        self.ready.clear();
        self.ready.push((ANYWHERE, Queue::default()));
        self.waiting.iter_mut().for_each(VecDeque::clear);
        self.undiscarded = self.undiscarded.as_ref().map(|_| Queue::default());
        self.set.clear();
        self.len = 0;
    }

    /// Iterates over the free slots as runs: queue by queue, longest free first; waiting slots
    /// last.
    pub(crate) fn iter_runs(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let queues = self.ready.iter().map(|(_, queue)| queue);
        let waiting = self
            .waiting
            .iter()
            .flatten()
            .map(|waiting| waiting.slot..waiting.slot + 1);
        let queues = queues
            .chain(&self.undiscarded)
            .flat_map(|queue| queue.0.iter().cloned());
        queues.chain(waiting)
    }

    /// Checks that queues and set agree. The error describes the difference.
    pub(crate) fn check(&self) -> Result<(), String> {
        let slots = self
            .runs
            .last()
            .map_or(0, |(run, first)| first + (run.end - run.start));
        let seen = Bits::new(slots);
        let mut seen = seen.map_err(|NoMemory| format!("no memory to check {slots} slots"))?;
        for run in self.iter_runs() {
            // Slots of one queued run may belong to adjacent runs of the class.
            let Some(first) = self.position(run.start) else {
                return Err(format!(
                    "slot {} is queued as free in a class it is not of",
                    run.start
                ));
            };
            let last = first + (run.end - 1 - run.start);
            if self.position(run.end - 1) != Some(last) {
                return Err(format!(
                    "slots {run:?} are queued as free in a class they are not all of"
                ));
            }
            if !seen.add(first..last + 1) {
                return Err(format!("one of the slots {run:?} is queued as free twice"));
            }
        }
        if seen != self.set {
            return Err("the queue of free slots and the set of free slots differ".to_string());
        }
        let counted = seen.count();
        if counted != self.len {
            return Err(format!(
                "{counted} slots are free, but {} are counted",
                self.len
            ));
        }
        Ok(())
    }

    fn queue_of(&mut self, placement: u16) -> &mut Queue {
        let known = self.ready.iter().position(|(id, _)| *id == placement);
        let at = known.unwrap_or_else(|| {
            self.ready.push((placement, Queue::default()));
            self.ready.len() - 1
        });
        &mut self.ready[at].1
    }

    /// Adds a slot to the set, or counts the refusal.
    fn admit(&mut self, slot: u32) -> bool {
        let position = self.position(slot);
        match position.filter(|&position| !self.is_set(position)) {
            Some(position) => {
                self.flip(position);
                self.len += 1;
                true
            }
            None => {
                self.rejected += 1;
                false
            }
        }
    }

    fn leave(&mut self, slot: u32) {
        if let Some(position) = self.position(slot) {
            self.flip(position);
            self.len -= 1;
        }
    }

    fn position(&self, slot: u32) -> Option<u32> {
        let after = self.runs.partition_point(|(run, _)| run.start <= slot);
        let (run, first) = self.runs.get(after.checked_sub(1)?)?;
        run.contains(&slot).then(|| first + (slot - run.start))
    }

    fn is_set(&self, position: u32) -> bool {
        self.set.contains(position)
    }

    fn flip(&mut self, position: u32) {
        self.set.flip(position);
    }
}

/// Slots in arrival order, as runs of consecutive ones.
#[derive(Debug, Default)]
struct Queue(VecDeque<Range<u32>>);

impl Queue {
    fn push(&mut self, slot: u32) {
        self.push_run(slot..slot + 1);
    }

    fn push_run(&mut self, slots: Range<u32>) {
        match self.0.back_mut() {
            Some(last) if last.end == slots.start => last.end = slots.end,
            _ => self.0.push_back(slots),
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let first = self.0.front_mut()?;
        let slot = first.start;
        first.start += 1;
        if first.start == first.end {
            self.0.pop_front();
        }
        Some(slot)
    }

    fn remove(&mut self, slot: u32) -> bool {
        let Some(at) = self.0.iter().position(|run| run.contains(&slot)) else {
            return false;
        };
        let run = self.0[at].clone();
        let (before, after) = (run.start..slot, slot + 1..run.end);
        match (before.is_empty(), after.is_empty()) {
            (true, true) => drop(self.0.remove(at)),
            (true, false) => self.0[at] = after,
            (false, true) => self.0[at] = before,
            (false, false) => {
                self.0[at] = before;
                self.0.insert(at + 1, after);
            }
        }
        true
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(Clone::clone)
    }
}

#[cfg(test)]
#[path = "free_list_tests.rs"]
mod tests;
