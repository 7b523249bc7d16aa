//! The free slots of one class: a deque for the order, a set for membership.
//!
//! Slots leave in the order in which they came (FIFO), so wear and the age of old headers spread
//! evenly. The deque holds runs of consecutive slots, not slots: an empty device is a handful of
//! runs, and a full one has nothing free, so a live entry pays one bit here. The set refuses a slot
//! that is free already or belongs to another class; refusals are counted, because each is a bug.

use std::collections::VecDeque;
use std::ops::Range;

#[derive(Debug)]
pub(crate) struct FreeList {
    queue: VecDeque<Range<u32>>,
    set: Box<[u64]>,
    /// The runs of slot ids of this class, ascending, with the set position of their first slot.
    runs: Box<[(Range<u32>, u32)]>,
    len: u32,
    rejected: u64,
}

impl FreeList {
    /// An empty list for the slots in `runs`, which are ascending and disjoint.
    pub(crate) fn new(runs: &[Range<u32>]) -> FreeList {
        let mut capacity = 0_u32;
        let with_positions = runs.iter().map(|run| {
            let position = capacity;
            capacity += run.end - run.start;
            (run.clone(), position)
        });
        let runs = with_positions.collect();
        let set = vec![0; capacity.div_ceil(64) as usize].into_boxed_slice();
        FreeList {
            queue: VecDeque::new(),
            set,
            runs,
            len: 0,
            rejected: 0,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// How often a slot was refused because it was free already or not of this class.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Adds a slot at the end; false, and counted, if it is free already or not of this class.
    pub(crate) fn push(&mut self, slot: u32) -> bool {
        let Some(position) = self
            .position(slot)
            .filter(|&position| !self.is_set(position))
        else {
            self.rejected += 1;
            return false;
        };
        self.flip(position);
        self.len += 1;
        match self.queue.back_mut() {
            Some(last) if last.end == slot => last.end += 1,
            _ => self.queue.push_back(slot..slot + 1),
        }
        true
    }

    /// Takes the slot that has been free longest.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        let first = self.queue.front_mut()?;
        let slot = first.start;
        first.start += 1;
        if first.start == first.end {
            self.queue.pop_front();
        }
        self.leave(slot);
        Some(slot)
    }

    /// Takes one named slot out of the middle; false if it is not free. Linear in the number of runs.
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        let Some(at) = self.queue.iter().position(|run| run.contains(&slot)) else {
            return false;
        };
        let run = self.queue[at].clone();
        let (before, after) = (run.start..slot, slot + 1..run.end);
        match (before.is_empty(), after.is_empty()) {
            (true, true) => drop(self.queue.remove(at)),
            (true, false) => self.queue[at] = after,
            (false, true) => self.queue[at] = before,
            (false, false) => {
                self.queue[at] = before;
                self.queue.insert(at + 1, after);
            }
        }
        self.leave(slot);
        true
    }

    /// Forgets everything, to be filled again.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.set.fill(0);
        self.len = 0;
    }

    /// The free slots, longest free first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.queue.iter().flat_map(Clone::clone)
    }

    /// Whether deque and set agree. The error says what is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut seen = vec![0_u64; self.set.len()];
        for slot in self.iter() {
            let Some(position) = self.position(slot) else {
                return Err(format!(
                    "slot {slot} is queued as free in a class it is not of"
                ));
            };
            let (word, bit) = word_and_bit(position);
            if seen[word] & bit != 0 {
                return Err(format!("slot {slot} is queued as free twice"));
            }
            seen[word] |= bit;
        }
        if seen[..] != self.set[..] {
            return Err("the queue of free slots and the set of free slots differ".to_string());
        }
        let counted: u32 = seen.iter().map(|word| word.count_ones()).sum();
        if counted != self.len {
            return Err(format!(
                "{counted} slots are free, but {} are counted",
                self.len
            ));
        }
        Ok(())
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
        let (word, bit) = word_and_bit(position);
        self.set[word] & bit != 0
    }

    fn flip(&mut self, position: u32) {
        let (word, bit) = word_and_bit(position);
        self.set[word] ^= bit;
    }
}

fn word_and_bit(position: u32) -> (usize, u64) {
    ((position / 64) as usize, 1 << (position % 64))
}

#[cfg(test)]
#[path = "free_list_tests.rs"]
mod tests;
