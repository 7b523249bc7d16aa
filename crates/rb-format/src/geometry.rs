//! Slot arithmetic: the position of each slot, and the class for a value.

use std::ops::Range;
use std::sync::Arc;

use crate::corruption::{equals, in_range};
use crate::{BLOCK, Corruption, MoreSlots, Superblock, VALUE_LEN_MAX, VALUE_SLOTS_MAX};

/// The positions of all slots, derived from a [`Superblock`]. Pure arithmetic, cheap to clone.
///
/// Slots are numbered globally from 0 in the order of the superblock's runs.
#[derive(Clone, Debug)]
pub struct Geometry {
    runs: Arc<[RunSpan]>,
    /// Payload capacity in bytes by class, ascending.
    capacities: Arc<[u64]>,
    slots: u32,
}

/// A run with the number of its first slot.
#[derive(Clone, Copy, Debug)]
struct RunSpan {
    first_slot: u32,
    end_slot: u32,
    class: u8,
    first_byte: u64,
    stride: u64,
}

impl Geometry {
    /// Creates the geometry of a superblock returned by [`plan`](crate::plan) or
    /// [`Superblock::decode`]. For a hand-made superblock that breaks their rules, the geometry
    /// stops at the last slot number that fits 32 bits.
    #[must_use]
    pub fn new(sb: &Superblock) -> Geometry {
        let mut capacities = Vec::new();
        let mut next = 0_u32;
        let mut runs = Vec::with_capacity(sb.runs.len());
        for run in &sb.runs {
            let class = usize::from(run.class);
            if capacities.len() <= class {
                capacities.resize(class + 1, 0);
            }
            capacities[class] = run.stride.saturating_sub(BLOCK);
            let count = u32::try_from(run.count).unwrap_or(u32::MAX);
            let end_slot = next.saturating_add(count);
            runs.push(RunSpan {
                first_slot: next,
                end_slot,
                class: run.class,
                first_byte: run.first_byte,
                stride: run.stride,
            });
            next = end_slot;
        }
        Geometry {
            runs: runs.into(),
            capacities: capacities.into(),
            slots: next,
        }
    }

    /// Returns the number of slots; they are numbered from 0.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Returns the number of slot classes; they are numbered from 0 by increasing capacity.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.capacities.len()
    }

    /// Returns the slot numbers of a class, run by run; empty for a class that does not exist.
    #[must_use]
    pub fn class_slots(&self, class: u8) -> Vec<Range<u32>> {
        let of_class = self.runs.iter().filter(|run| run.class == class);
        of_class.map(|run| run.first_slot..run.end_slot).collect()
    }

    /// Returns the payload capacity of a slot of the class in bytes; 0 for a class that does not
    /// exist.
    #[must_use]
    pub fn class_capacity(&self, class: u8) -> u64 {
        self.capacities
            .get(usize::from(class))
            .copied()
            .unwrap_or(0)
    }

    /// Returns the class with the smallest slots that hold `payload_len` bytes; `None` if there is
    /// none.
    #[must_use]
    pub fn class_for(&self, payload_len: u64) -> Option<u8> {
        let class = self
            .capacities
            .partition_point(|&capacity| capacity < payload_len);
        (class < self.capacities.len()).then_some(class as u8)
    }

    /// Returns the class of a slot; `None` beyond the last slot.
    #[must_use]
    pub fn class_of(&self, slot: u32) -> Option<u8> {
        self.run_of(slot).map(|run| run.class)
    }

    /// Returns the payload capacity of a slot in bytes; `None` beyond the last slot.
    #[must_use]
    pub fn slot_capacity(&self, slot: u32) -> Option<u64> {
        self.run_of(slot)
            .map(|run| run.stride.saturating_sub(BLOCK))
    }

    /// Returns the device offset of a slot's header; `None` beyond the last slot.
    #[must_use]
    pub fn slot_offset(&self, slot: u32) -> Option<u64> {
        let run = self.run_of(slot)?;
        let within = u64::from(slot - run.first_slot).checked_mul(run.stride)?;
        run.first_byte.checked_add(within)
    }

    /// Returns the slot that contains this byte of the device; `None` if none does.
    #[must_use]
    pub fn slot_at(&self, offset: u64) -> Option<u32> {
        let of_run = |run: &RunSpan| {
            let within = offset
                .checked_sub(run.first_byte)?
                .checked_div(run.stride)?;
            let slot = run.first_slot.checked_add(u32::try_from(within).ok()?)?;
            (slot < run.end_slot).then_some(slot)
        };
        self.runs.iter().find_map(of_run)
    }

    /// Returns the device offset of a slot's payload, one format block after its header.
    #[must_use]
    pub fn payload_offset(&self, slot: u32) -> Option<u64> {
        self.slot_offset(slot)?.checked_add(BLOCK)
    }

    /// Returns the length in bytes of the largest value that fits one slot.
    #[must_use]
    pub fn largest_value(&self) -> u64 {
        self.capacities.last().copied().unwrap_or(0)
    }

    /// Returns the class and the number of slots for a value of this length: the smallest class
    /// that holds it in one slot, or otherwise as many slots of the largest class as it fills.
    /// `None` for an empty value, and for one longer than [`VALUE_LEN_MAX`] or [`VALUE_SLOTS_MAX`]
    /// slots of the largest class. Does not check that the class has so many slots.
    #[must_use]
    pub fn slots_for(&self, payload_len: u64) -> Option<(u8, usize)> {
        if !(1..=VALUE_LEN_MAX).contains(&payload_len) {
            return None;
        }
        if let Some(class) = self.class_for(payload_len) {
            return Some((class, 1));
        }
        let largest = self.capacities.len().checked_sub(1)?;
        let slots = payload_len.div_ceil(*self.capacities.get(largest)?) as usize;
        (slots <= VALUE_SLOTS_MAX).then_some((largest as u8, slots))
    }

    /// Returns the length in bytes of the largest value that the slots of this store hold.
    #[must_use]
    pub fn value_len_max(&self) -> u64 {
        let largest = self.capacities.len().saturating_sub(1) as u8;
        let ranges = self.class_slots(largest);
        let slots: u64 = ranges.iter().map(|range| range.len() as u64).sum();
        let slots = slots.min(VALUE_SLOTS_MAX as u64);
        (slots * self.largest_value()).min(VALUE_LEN_MAX)
    }

    /// Checks the slots of a value named by metadata: all exist and hold the value; several slots
    /// are of the largest class, each named once, and no more than the value fills.
    ///
    /// # Errors
    /// A [`Corruption`] with `what`, the structure that named the slots.
    pub fn check_slots(
        &self,
        what: &'static str,
        slot: u32,
        more: MoreSlots<'_>,
        payload_len: u32,
    ) -> Result<(), Corruption> {
        let last = u64::from(self.slots()).saturating_sub(1);
        let no_such = |slot: u32| Corruption::Field {
            what,
            field: "slot",
            found: slot.into(),
            min: 0,
            max: last,
        };
        let capacity = self.slot_capacity(slot).ok_or_else(|| no_such(slot))?;
        let before = more.len() as u64 * capacity;
        in_range(
            what,
            "payload length",
            payload_len.into(),
            before + 1,
            before + capacity,
        )?;
        if more.is_empty() {
            return Ok(());
        }
        let largest = self.largest_value();
        equals(what, "capacity of a value's first slot", largest, capacity)?;
        for slot in more.iter() {
            let capacity = self.slot_capacity(slot).ok_or_else(|| no_such(slot))?;
            equals(
                what,
                "capacity of a value's further slot",
                largest,
                capacity,
            )?;
        }
        more.check_distinct(what, slot)
    }

    fn run_of(&self, slot: u32) -> Option<&RunSpan> {
        let at = self.runs.partition_point(|run| run.end_slot <= slot);
        self.runs.get(at)
    }
}

/// Rounds a payload length up to whole format blocks, the length that is transferred. Lengths near
/// 2^64, which no slot holds, are rounded down instead of overflowing.
#[must_use]
pub fn padded_len(payload_len: u64) -> u64 {
    payload_len
        .checked_next_multiple_of(BLOCK)
        .unwrap_or(u64::MAX - u64::MAX % BLOCK)
}
