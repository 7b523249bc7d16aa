//! Computes how many slots of each class fit a device.

use super::error::LayoutError;
use super::request::{Share, Wishes};
use super::sizes::{Areas, slot_space};
use crate::BLOCK;

/// Returns the number of slots of each class on a device of `device_bytes`.
pub(super) fn counts(wishes: &Wishes, device_bytes: u64) -> Result<Vec<u64>, LayoutError> {
    // Find the largest slot space that leaves room for the metadata of its slots. More space never
    // means fewer slots except by rounding, so bisection finds it; `fits` is always a space that
    // was checked to fit.
    let starts_within = |space_blocks: u64| {
        let counts = share_out(wishes, space_blocks * BLOCK);
        let areas = Areas::of(wishes, &counts);
        areas
            .slots_start()
            .saturating_add(areas.behind_slots())
            .saturating_add(space_blocks * BLOCK)
            <= device_bytes
    };
    let (mut fits, mut above) = (0, device_bytes / BLOCK + 1);
    while above - fits > 1 {
        let middle = fits + (above - fits) / 2;
        if starts_within(middle) {
            fits = middle;
        } else {
            above = middle;
        }
    }
    let counts = share_out(wishes, fits * BLOCK);
    let asked = slot_space(wishes, &counts);
    if !starts_within(fits) || asked > u128::from(fits * BLOCK) || counts.contains(&0) {
        let needed = least_bytes(wishes)?;
        if needed > device_bytes {
            return Err(LayoutError::DeviceTooSmall {
                needed,
                device_bytes,
            });
        }
    }
    // Exact numbers and percentages together may request more than the available space.
    if asked > u128::from(fits * BLOCK) {
        return Err(LayoutError::SharesExceedSpace {
            asked,
            space_bytes: fits * BLOCK,
        });
    }
    check_counts(wishes, &counts)?;
    Ok(counts)
}

/// Checks that every class has a slot and that slot numbers suffice.
pub(super) fn check_counts(wishes: &Wishes, counts: &[u64]) -> Result<(), LayoutError> {
    if let Some((wish, _)) = wishes
        .classes
        .iter()
        .zip(counts)
        .find(|(_, count)| **count == 0)
    {
        return Err(LayoutError::NoSlots {
            slot_bytes: wish.slot_bytes,
        });
    }
    let slots = counts
        .iter()
        .fold(0_u64, |sum, &count| sum.saturating_add(count));
    if slots > u64::from(u32::MAX) {
        return Err(LayoutError::TooManySlots {
            slots,
            max: u32::MAX.into(),
        });
    }
    Ok(())
}

/// Divides `space` bytes among the classes. Exact numbers are granted regardless of the space.
fn share_out(wishes: &Wishes, space: u64) -> Vec<u64> {
    let percent_of_space = |percent: u32| (u128::from(space) * u128::from(percent) / 100) as u64;
    let mut left = space;
    let mut rest_classes = 0;
    let mut counts = vec![0; wishes.classes.len()];
    for (count, wish) in counts.iter_mut().zip(&wishes.classes) {
        let stride = wish.slot_bytes + BLOCK;
        match wish.share {
            Share::Percent(percent) => *count = percent_of_space(percent) / stride,
            Share::Slots(slots) => *count = slots,
            Share::Rest => rest_classes += 1,
        }
        left = left.saturating_sub(count.saturating_mul(stride));
    }
    for (count, wish) in counts.iter_mut().zip(&wishes.classes) {
        if wish.share == Share::Rest {
            *count = left / rest_classes / (wish.slot_bytes + BLOCK);
        }
    }
    counts
}

/// Returns the smallest device that can meet the request: exact numbers, and one slot of every
/// other class.
fn least_bytes(wishes: &Wishes) -> Result<u64, LayoutError> {
    let least: Vec<u64> = wishes
        .classes
        .iter()
        .map(|wish| match wish.share {
            Share::Slots(slots) => slots,
            Share::Percent(_) | Share::Rest => 1,
        })
        .collect();
    Areas::of(wishes, &least)
        .end(wishes, &least)
        .ok_or(LayoutError::TooLarge)
}
