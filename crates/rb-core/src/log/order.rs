//! Checks the order of the log: the generations of each slot's owners must ascend.
//!
//! A put takes all its slots before it draws its generation, and a slot has one owner at a time. A
//! writer that drew first could get the lower generation and yet the slot later. Recovery keeps the
//! higher claim, so the acknowledged value would be lost.

use std::collections::HashMap;

use rb_format::{Generation, LogBlock, Record};

/// The last owner of each slot in the part of the log followed so far.
#[derive(Default)]
pub(crate) struct LogOrder {
    owners: HashMap<u32, (Generation, u64)>,
    /// Slots whose generations do not ascend; the first [`KEPT_MAX`] are kept.
    pub(crate) violations: Vec<Violation>,
}

const KEPT_MAX: usize = 16;

/// Two owners of one slot in the wrong order.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    /// Sequence of the block with the later owner's record.
    pub(crate) block: u64,
    pub(crate) why: String,
}

impl LogOrder {
    /// Checks the records of the next block of the chain.
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
