//! Checks that the numbers of a superblock are consistent.
//!
//! After this check no arithmetic on regions and runs can overflow, and no two areas share a byte.

use super::bytes::WHAT;
use super::fields::{Run, Superblock};
use super::region::Region;
use crate::corruption::{equals, in_range, whole_blocks};
use crate::{
    BLOCK, CLASSES_MAX, Corruption, KEY_LEN_MAX, METADATA_LEN_MAX, METADATA_START, SEQUENCE_MAX,
    SLOT_BYTES_MAX, UNUSED_END,
};

/// The shortest delta log in format blocks: enough for a group commit and the blocks that two
/// checkpoints must keep, even in the smallest store.
pub(crate) const LOG_BLOCKS_MIN: u64 = 64;

/// The shortest base region: a header at each end.
const BASE_BYTES_MIN: u64 = 2 * BLOCK;

/// The largest device the format addresses: signed 64-bit file offsets.
const DEVICE_BYTES_MAX: u64 = i64::MAX as u64;

/// A named range of device bytes, checked not to overflow.
struct Area {
    name: &'static str,
    start: u64,
    end: u64,
}

pub(super) fn validate(sb: &Superblock) -> Result<(), Corruption> {
    // Destructured completely, so that a new field forces a decision here.
    let Superblock {
        sequence,
        identity,
        set_uuid: _,
        member_index,
        member_count,
        key_len_max,
        metadata_len_max,
        device_bytes,
        base_a,
        base_b,
        policy,
        log,
        log_2,
        formatted_at: _,
        features: _,
        label: _,
        runs,
    } = sb;
    in_range(WHAT, "sequence", *sequence, 0, SEQUENCE_MAX)?;
    in_range(WHAT, "epoch", identity.epoch, 0, SEQUENCE_MAX)?;
    in_range(
        WHAT,
        "member count",
        (*member_count).into(),
        1,
        u32::MAX.into(),
    )?;
    in_range(
        WHAT,
        "member index",
        (*member_index).into(),
        0,
        u64::from(*member_count) - 1,
    )?;
    in_range(
        WHAT,
        "key length limit",
        (*key_len_max).into(),
        1,
        KEY_LEN_MAX as u64,
    )?;
    let metadata_len_max = u64::from(*metadata_len_max);
    in_range(
        WHAT,
        "metadata length limit",
        metadata_len_max,
        0,
        METADATA_LEN_MAX as u64,
    )?;
    in_range(
        WHAT,
        "device bytes",
        *device_bytes,
        METADATA_START + BLOCK + UNUSED_END,
        DEVICE_BYTES_MAX,
    )?;
    whole_blocks(WHAT, "device bytes", *device_bytes)?;
    in_range(
        WHAT,
        "log bytes",
        log.bytes,
        LOG_BLOCKS_MIN * BLOCK,
        *device_bytes,
    )?;
    for base in [base_a, base_b] {
        in_range(
            WHAT,
            "base bytes",
            base.bytes,
            BASE_BYTES_MIN,
            *device_bytes,
        )?;
    }

    // Areas lie between the unused ones.
    let end = *device_bytes - UNUSED_END;
    let mut areas = vec![
        region_area("base A", base_a, end)?,
        region_area("base B", base_b, end)?,
        region_area("the policy region", policy, end)?,
        region_area("log ring 1", log, end)?,
        region_area("log ring 2", log_2, end)?,
    ];
    for run in runs {
        areas.push(run_area(run, end)?);
    }
    disjoint(areas)?;
    classes(runs)?;
    let slots = runs
        .iter()
        .fold(0_u64, |sum, run| sum.saturating_add(run.count));
    in_range(WHAT, "slots", slots, 1, u32::MAX.into())
}

fn region_area(name: &'static str, region: &Region, areas_end: u64) -> Result<Area, Corruption> {
    let Region { offset, bytes } = *region;
    whole_blocks(WHAT, "region offset", offset)?;
    whole_blocks(WHAT, "region length", bytes)?;
    in_range(
        WHAT,
        "region offset",
        offset,
        METADATA_START,
        areas_end - BLOCK,
    )?;
    in_range(WHAT, "region length", bytes, BLOCK, areas_end - offset)?;
    Ok(Area {
        name,
        start: offset,
        end: offset + bytes,
    })
}

fn run_area(run: &Run, areas_end: u64) -> Result<Area, Corruption> {
    let Run {
        class,
        first_byte,
        stride,
        count,
    } = *run;
    in_range(WHAT, "run class", class.into(), 0, CLASSES_MAX as u64 - 1)?;
    whole_blocks(WHAT, "run first byte", first_byte)?;
    whole_blocks(WHAT, "run stride", stride)?;
    in_range(
        WHAT,
        "run stride",
        stride,
        2 * BLOCK,
        SLOT_BYTES_MAX + BLOCK,
    )?;
    in_range(
        WHAT,
        "run first byte",
        first_byte,
        METADATA_START,
        areas_end - BLOCK,
    )?;
    // The division keeps `count * stride` from overflowing for any count.
    in_range(
        WHAT,
        "run count",
        count,
        1,
        (areas_end - first_byte) / stride,
    )?;
    Ok(Area {
        name: "run",
        start: first_byte,
        end: first_byte + count * stride,
    })
}

fn disjoint(mut areas: Vec<Area>) -> Result<(), Corruption> {
    areas.sort_by_key(|area| area.start);
    for pair in areas.windows(2) {
        let [a, b] = pair else { continue };
        if a.end > b.start {
            return Err(Corruption::Overlap {
                what: WHAT,
                first: a.name,
                end: a.end,
                second: b.name,
                start: b.start,
            });
        }
    }
    Ok(())
}

/// Checks that classes are numbered densely from 0, that each has one stride, and that strides
/// increase with the number.
fn classes(runs: &[Run]) -> Result<(), Corruption> {
    let mut strides = [None; CLASSES_MAX];
    for run in runs {
        // The class is below `CLASSES_MAX`: `run_area` has checked it.
        let stride = strides[usize::from(run.class)].get_or_insert(run.stride);
        equals(
            WHAT,
            "stride of a further run of its class",
            *stride,
            run.stride,
        )?;
    }
    let count = strides.iter().flatten().count();
    let mut above = 0;
    for (class, stride) in strides.iter().enumerate().take(count) {
        // There are fewer classes than the highest number implies: this one is missing.
        let Some(stride) = *stride else {
            return Err(Corruption::Field {
                what: WHAT,
                field: "runs of a class below the highest class",
                found: 0,
                min: 1,
                max: class as u64,
            });
        };
        in_range(
            WHAT,
            "stride of a higher class",
            stride,
            above + BLOCK,
            u64::MAX,
        )?;
        above = stride;
    }
    Ok(())
}
