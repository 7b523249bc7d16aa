//! The order of the log: the generations of each slot's owners ascend.
//!
//! A put takes all its slots before it draws its generation, and a slot has one owner at a time. A writer that
//! draws first can have the lower generation although it had the slot later. Recovery keeps the higher claim, and
//! the value that was acknowledged is gone.

use std::collections::HashMap;

use rb_format::{Generation, LogBlock, Record};

/// The last owner of each slot, as far as the log was followed.
#[derive(Default)]
pub(crate) struct LogOrder {
    owners: HashMap<u32, (Generation, u64)>,
    /// The first slots whose generations do not ascend, at most [`KEPT_MAX`].
    pub(crate) violations: Vec<Violation>,
}

const KEPT_MAX: usize = 16;

/// Two owners of one slot in the wrong order.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// The block of the later owner's record.
    pub(crate) block: u64,
    pub(crate) why: String,
}

impl LogOrder {
    /// Takes the next block of the chain.
    pub(crate) fn add(&mut self, block: &LogBlock<'_>) {
        for record in block.records() {
            let Record::Put {
                slot,
                more,
                generation,
                ..
            } = record
            else {
                continue;
            };
            for slot in std::iter::once(slot).chain(more.iter()) {
                self.own(slot, generation, block.sequence);
            }
        }
    }

    fn own(&mut self, slot: u32, generation: Generation, block: u64) {
        let former = self.owners.insert(slot, (generation, block));
        if let Some((before, at)) = former
            && before >= generation
            && self.violations.len() < KEPT_MAX
        {
            let why = format!(
                "slot {slot} has generation {before} in log block {at}, and generation {generation} after it in log block {block}: a writer drew a generation before it took the slot; recovery keeps the higher one and a value may be lost"
            );
            self.violations.push(Violation { block, why });
        }
    }
}
