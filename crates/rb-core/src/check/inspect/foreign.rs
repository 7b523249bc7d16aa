//! Notes foreign data in inspected structures.

use rb_format::{FORMAT_BLOCK, Superblock};

use super::structure::Inspected;
use crate::error::OpenError;
use crate::io::block_at::BlockAt;
use crate::io::meta_io::MetaIo;
use crate::io::whose;
use crate::log::incarnations::read_pair;

/// Adds a note for each piece of foreign data: to the structure at its place, else to the last one.
pub(super) fn name_foreign(
    shown: &mut [Inspected],
    io: &mut MetaIo,
    capacity: u64,
    copies: &[BlockAt<Superblock>; 2],
) -> Result<(), OpenError> {
    let failed = |source| {
        let what = "looking at the unused areas";
        OpenError::Io { what, source }
    };
    let newest = copies
        .iter()
        .filter_map(|copy| copy.decoded.as_ref().ok())
        .max_by_key(|found| found.sequence);
    let found = match newest {
        Some(newest) => {
            let blocks = read_pair(io, &newest.identity).map_err(failed)?;
            whose::look(io, capacity, newest, copies, &blocks).map_err(failed)?
        }
        None => whose::all_signatures(io, capacity).map_err(failed)?,
    };
    for foreign in found {
        let is_in = |part: &Inspected| {
            (part.offset..part.offset + FORMAT_BLOCK as u64).contains(&foreign.offset)
        };
        let place = shown
            .iter()
            .position(is_in)
            .unwrap_or(shown.len().saturating_sub(1));
        if let Some(part) = shown.get_mut(place) {
            part.notes.push(format!("the device carries {foreign}"));
        }
    }
    Ok(())
}
