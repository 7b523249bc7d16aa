//! Takes a store over for writing, in the steps of [`crate::log::incarnations`].

use crate::error::OpenError;
use crate::io::meta_io::MetaIo;
use crate::io::superblocks::{Superblocks, check_numbers, check_unchanged};
use crate::io::whose;
use crate::log::incarnations::{agree, begin};
use crate::open::open_plan::OpenPlan;
use crate::open::recovered::Taken;
use crate::open::replay::log_went_on;
use crate::open::sessions::{contended, read_blocks, read_openings};
use crate::open::start_empty::start_empty;

/// Most recoveries of a writing session while another host keeps writing or opens the store, too.
const ATTEMPTS: usize = 3;

/// Recovers the store and takes it over.
///
/// # Errors
/// `Contended` if another host opens or writes the store at the same time; it keeps the store.
pub(crate) fn take_over(
    opening: &OpenPlan<'_>,
    io: &mut MetaIo,
    found: &mut Superblocks,
) -> Result<Taken, OpenError> {
    if opening.options.start_empty {
        return start_empty(opening, io, found);
    }
    let random = opening.options.random.as_ref();
    let began_with = found.clone();
    for _ in 0..ATTEMPTS {
        // A later epoch seen by the last attempt may be gone.
        found.clone_from(&began_with);
        let known = read_openings(io, opening.copies, found)?; // 1
        let foreign = opening.foreign(io, &found.newest, &known)?;
        let mut recovered = opening.recover(io, &found.newest)?; // 2
        opening.report(&mut recovered, &found.newest, &known, foreign.clone())?;
        whose::check(
            opening.path,
            &recovered.report.foreign,
            opening.options.force,
        )?;
        if !agree(&known, &read_blocks(io, &found.newest)?) {
            continue; // 3
        }
        check_numbers(&[
            ("log sequence", recovered.end.sequence),
            ("base sequence", recovered.base_sequence),
        ])?;
        let identity = found.newest.identity;
        let (incarnation, refused) = begin(io, identity, &known, recovered.incarnation, random)?; // 4, 5
        check_unchanged(io, opening.capacity, &found.newest)?;
        for _ in 0..ATTEMPTS {
            let went_on = log_went_on(io, &found.newest, &recovered).map_err(|source| {
                let what = "reading on at the end of the log";
                OpenError::Io { what, source }
            })?;
            if !went_on {
                return Ok(Taken {
                    recovered,
                    incarnation,
                    refused,
                });
            }
            recovered = opening.recover(io, &found.newest)?; // 6
            opening.report(&mut recovered, &found.newest, &known, foreign.clone())?;
            if recovered.incarnation >= incarnation.number() {
                return Err(contended("it had the same number, and has written with it"));
            }
        }
        return Err(contended("its log has grown with each look at it"));
    }
    Err(contended("it was opened again during each look at it"))
}
