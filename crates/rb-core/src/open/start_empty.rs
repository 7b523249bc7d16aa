//! Starts with an empty store, in a new epoch.

use rb_format::LogPosition;

use crate::error::OpenError;
use crate::io::headers::{HeaderPlace, PlaceState, read_headers};
use crate::io::meta_io::MetaIo;
use crate::io::superblocks::{Superblocks, check_numbers, check_unchanged, write_superblock};
use crate::io::whose;
use crate::log::incarnations::{agree, begin, begin_twice, check_writer};
use crate::open::format_device::write_empty_base;
use crate::open::open_plan::OpenPlan;
use crate::open::recover::{no_base, restore_bad_slots};
use crate::open::recovered::{Recovered, Taken};
use crate::open::sessions::{contended, read_blocks, read_openings};
use crate::open::unfinished::Outliving;

/// Drops all entries by starting a new epoch: every older record then counts as another store's.
///
/// The order of writes: first the new epoch's base, over the older base of the former epoch. Then
/// the incarnation block; from here on a session finds the store empty and completes an interrupted
/// start-empty. Last the superblock copies, so that damage to a new copy cannot bring the former
/// epoch back.
pub(crate) fn start_empty(
    opening: &OpenPlan<'_>,
    io: &mut MetaIo,
    found: &mut Superblocks,
) -> Result<Taken, OpenError> {
    let failed = |what| move |source| OpenError::Io { what, source };
    let known = read_openings(io, opening.copies, found)?;
    let mut foreign = opening.foreign(io, &found.newest, &known)?;
    let last = whose::last_opening(io, &found.newest).map_err(no_base)?;
    foreign.extend(whose::lost_incarnations(
        &known,
        &found.newest.identity,
        last,
    ));
    whose::check(opening.path, &foreign, opening.options.force)?;
    check_numbers(&[
        ("superblock sequence", found.newest.sequence),
        ("epoch", found.newest.identity.epoch),
    ])?;
    // Before the first write: without memory for an empty index the store must stay unchanged.
    let index = opening
        .how
        .empty_index(opening.geometry)
        .map_err(failed("making the index"))?;
    let headers = read_headers(io, &found.newest).map_err(no_base)?;
    let mut outliving = Outliving {
        bad_slots: headers.bad_slots(),
        bad_blocks: headers.bad_blocks(),
        lifetime: headers.lifetime(),
    };
    outliving.bad_slots.sort_unstable();
    outliving.bad_slots.dedup();
    let region = headers.found.first().map_or(0, |newest| 1 - newest.region);
    let mut superblock = found.newest.clone();
    superblock.sequence += 1;
    superblock.identity.epoch += 1;
    let position = LogPosition {
        sequence: 1,
        anchor: 0,
    };
    let place = superblock.bases()[region];
    let check_alone = |io: &mut MetaIo| {
        let unchanged = agree(&known, &read_blocks(io, &found.newest)?);
        match unchanged {
            true => Ok(()),
            false => Err(contended("it was opened while it was to be emptied")),
        }
    };
    // The region holds the older base only while no other host writes bases.
    check_alone(io)?;
    let header = write_empty_base(io, &superblock, place, position, &outliving)
        .map_err(failed("writing the first checkpoint base"))?;
    check_alone(io)?;
    let random = opening.options.random.as_ref();
    let (mut incarnation, mut refused) = begin(io, superblock.identity, &known, 0, random)?;
    check_unchanged(io, opening.capacity, &found.newest)?;
    // Until then, another session of the former epoch may have overwritten the new base.
    let written = read_headers(io, &superblock).map_err(no_base)?;
    let is_ours = |place: &HeaderPlace| {
        place.region != region
            || matches!(place.state, PlaceState::Whole | PlaceState::Unreadable(_))
    };
    if !written.places.iter().all(is_ours) {
        write_empty_base(io, &superblock, place, position, &outliving)
            .map_err(failed("writing the first checkpoint base"))?;
    }
    // A session of the former epoch that acknowledged something since must win.
    check_writer(io, &incarnation).map_err(|why| contended(&why.to_string()))?;
    let unwritten = write_superblock(io, &superblock).map_err(failed("writing the superblocks"))?;
    if !unwritten.is_empty() {
        incarnation = begin_twice(io, incarnation, &mut refused)?;
    }
    refused.extend(unwritten.into_iter().chain(header));
    *found = Superblocks {
        newest: superblock,
        repair: [false, false],
    };
    let mut recovered = Recovered::empty(index, region, position, incarnation.number(), foreign);
    recovered.bad_blocks = outliving.bad_blocks;
    recovered.report.lifetime = outliving.lifetime;
    restore_bad_slots(&mut recovered, outliving.bad_slots);
    recovered.report_bad();
    Ok(Taken {
        recovered,
        incarnation,
        refused,
    })
}
