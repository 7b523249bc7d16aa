//! Selects the images of a crash point to try: all subsets of the pending writes if they are few, otherwise the corner
//! cases and seeded samples; and always some torn writes.

use std::collections::HashMap;
use std::ops::Range;

use rb_format::{AnyHeader, FORMAT_BLOCK, Generation};
use rb_testkit::values::next_number;
use rb_testkit::{CrashPoints, Kept, MemWrite, Recorded};

use super::places::Places;
use super::states::State;

/// Maximum number of pending writes of which every subset is tried.
const ALL_SUBSETS_OF: usize = 3;
/// Samples of each kind if there are more.
const SAMPLES: u64 = 4;
/// Sectors of a format block.
const BLOCK: usize = 8;

/// Returns, for each image to try, which part of each pending write is kept. `log` is the region of the log.
pub(super) fn choices(points: &CrashPoints, log: &Range<u64>, random: &mut u64) -> Vec<Vec<Kept>> {
    let pending = points.pending();
    let count = pending.len();
    if count == 0 {
        return vec![Vec::new()];
    }
    let whole = |kept: bool| if kept { Kept::All } else { Kept::Nothing };
    let mut choices: Vec<Vec<Kept>> = Vec::new();
    if count <= ALL_SUBSETS_OF {
        let subset = |bits: usize| (0..count).map(move |at| whole(bits >> at & 1 == 1));
        choices.extend((0..1 << count).map(|bits| subset(bits).collect()));
    } else {
        choices.push(vec![Kept::Nothing; count]);
        choices.push(vec![Kept::All; count]);
        for _ in 0..SAMPLES {
            let at = next_number(random) as usize % count;
            choices.push((0..count).map(|n| whole(n == at)).collect());
            choices.push((0..count).map(|n| whole(n != at)).collect());
            choices.push((0..count).map(|n| whole(n < at)).collect());
            choices.push(
                (0..count)
                    .map(|_| whole(next_number(random) & 1 == 1))
                    .collect(),
            );
        }
    }
    // A commit without its first block: its other blocks must not be taken for valid log, now or
    // later.
    if let Some(at) = (0..count).find(|at| is_long_commit(&pending[*at], log)) {
        let mut gap = vec![Kept::All; count];
        gap[at] = Kept::Last(pending[at].bytes().len() / 512 - BLOCK);
        choices.push(gap);
    }
    for number in 0..SAMPLES {
        let mut torn: Vec<Kept> = (0..count)
            .map(|_| whole(number % 2 == 0 || next_number(random) & 1 == 1))
            .collect();
        // Mostly the last write: earlier ones had more time to land.
        let at = match number {
            0 | 1 => count - 1,
            _ => next_number(random) as usize % count,
        };
        torn[at] = tear(&pending[at], random);
        choices.push(torn);
    }
    choices.push(
        (0..count)
            .map(|_| Kept::Some(next_number(random)))
            .collect(),
    );
    choices
}

/// Returns whether a write is a commit of several blocks.
fn is_long_commit(write: &MemWrite, log: &Range<u64>) -> bool {
    log.contains(&write.offset) && write.bytes().len() / 512 > BLOCK
}

fn tear(write: &MemWrite, random: &mut u64) -> Kept {
    let sectors = write.bytes().len() / 512;
    let some = 1 + next_number(random) as usize % sectors.max(1);
    let blocks = some
        .next_multiple_of(BLOCK)
        .min(sectors.saturating_sub(BLOCK));
    match next_number(random) % 5 {
        0 => Kept::First(some.min(sectors - 1)),
        1 => Kept::Last(some.min(sectors - 1)),
        2 if blocks > 0 => Kept::First(blocks),
        3 if blocks > 0 => Kept::Last(blocks),
        _ => Kept::Some(next_number(random)),
    }
}

/// Returns the states that a crash point is in, derived from its pending writes.
pub(super) fn states_of(points: &CrashPoints, places: &Places) -> Vec<State> {
    let pending = points.pending();
    let flush_next = matches!(
        points.steps().get(points.at()),
        Some(Recorded::Flush { .. })
    );
    let within = |range: &Range<u64>| {
        let range = range.clone();
        pending
            .iter()
            .filter(move |write| range.contains(&write.offset))
    };
    let mut states = Vec::new();
    let mut reach = |state, reached: bool| states.extend(reached.then_some(state));
    for base in &places.bases {
        let header = within(base).any(|write| write.offset == base.start);
        let sections = within(base).any(|write| write.offset > base.start);
        reach(State::BaseSections, sections && !header && !flush_next);
        reach(State::BaseDirectory, sections && !header && flush_next);
        reach(State::BaseHeader, header && !sections);
    }
    let log: Vec<&MemWrite> = within(&places.log).collect();
    let blocks: usize = log.iter().map(|write| write.bytes().len() / 4096).sum();
    reach(State::LogBlocks, blocks > 0);
    reach(State::LogBlocksMany, blocks > 1);
    reach(
        State::LogWrap,
        log.windows(2).any(|two| two[1].offset < two[0].offset),
    );
    reach(
        State::Incarnation,
        within(&places.incarnations).next().is_some(),
    );
    let superblocks = places
        .superblocks
        .iter()
        .any(|range| within(range).next().is_some());
    reach(State::Superblock, superblocks);
    states
}

/// Returns the additional states of an image.
pub(super) fn states_of_image(points: &CrashPoints, kept: &[Kept], places: &Places) -> Vec<State> {
    let torn = |range: &Range<u64>| {
        points.pending().iter().zip(kept).any(|(write, kept)| {
            let whole = matches!(kept, Kept::All | Kept::Nothing);
            !whole && range.contains(&write.offset)
        })
    };
    let header = |base: &Range<u64>| base.start..base.start + 1;
    let mut states = Vec::new();
    let mut reach = |state, reached: bool| states.extend(reached.then_some(state));
    reach(
        State::BaseHeaderTorn,
        places.bases.iter().any(|base| torn(&header(base))),
    );
    reach(State::IncarnationTorn, torn(&places.incarnations));
    reach(State::SlotTorn, torn(&places.slots));
    reach(State::SeveralTorn, tears_several(points, kept, places));
    let log = |write: &&(&MemWrite, &Kept)| places.log.contains(&write.0.offset);
    let logs: Vec<_> = points.pending().iter().zip(kept).collect();
    let logs: Vec<_> = logs.iter().filter(log).collect();
    let gap = logs.iter().any(|(write, kept)| {
        let last = matches!(kept, Kept::Last(sectors) if *sectors >= BLOCK);
        last && write.bytes().len() > 4096
    });
    let skipped = logs
        .windows(2)
        .any(|two| *two[0].1 == Kept::Nothing && *two[1].1 == Kept::All);
    reach(State::LogGap, gap || skipped);
    states
}

/// Returns whether an image has one slot of a value of several whole, and another one torn or not at all.
fn tears_several(points: &CrashPoints, kept: &[Kept], places: &Places) -> bool {
    // By slot: the generation of its header that is pending.
    let mut owners: HashMap<u32, (Generation, bool)> = HashMap::new();
    for write in points.pending() {
        let header = write.bytes().get(..FORMAT_BLOCK);
        let header = header.and_then(|bytes| AnyHeader::decode(bytes, &places.identity).ok());
        if let (Some(slot), Some(header)) = (places.geometry.slot_at(write.offset), header) {
            let is_further = matches!(header, AnyHeader::Continuation(_));
            owners.insert(slot, (header.generation(), is_further));
        }
    }
    // By generation of several slots: whether a write of a slot is whole, and whether one is not.
    let mut found: HashMap<Generation, [bool; 2]> = HashMap::new();
    for (write, kept) in points.pending().iter().zip(kept) {
        let slot = places.geometry.slot_at(write.offset);
        if let Some(&(generation, _)) = slot.and_then(|slot| owners.get(&slot)) {
            found.entry(generation).or_default()[usize::from(*kept == Kept::All)] = true;
        }
    }
    let mut several = owners.values().filter(|(_, is_further)| *is_further);
    several.any(|(generation, _)| found.get(generation) == Some(&[true, true]))
}
