//! Memory checks: computes the need of memory whose size a device or a caller decides and compares
//! it with the limit, so that too much is an error and not an abort.

use rb_index::{Index, IndexError};
use rb_io::Arena;

use crate::error::Error;

/// Reserve for small allocations that are not counted, such as decoded sections and thread stacks.
const SLACK: u64 = 32 << 20;

/// Checks that `need` bytes can be allocated, before any of them is.
///
/// # Errors
/// `Resource`, with the need and the limit.
pub(crate) fn check(what: &'static str, need: u64) -> Result<(), Error> {
    let with_slack = need.saturating_add(SLACK);
    let limit = rb_io::memory_limit();
    let fits = limit.is_none_or(|limit| with_slack <= limit.value);
    // Maps and unmaps the memory without touching it: fails if the system cannot provide the
    // address space.
    let there = usize::try_from(with_slack).is_ok_and(|bytes| Arena::allocate(bytes).is_ok());
    match fits && there {
        true => Ok(()),
        false => Err(refused(what, need)),
    }
}

/// Like [`check`], for entries that are about to be loaded.
pub(crate) fn check_entries(entries: u64, key_bytes: u64) -> Result<(), Error> {
    let need = Index::entries_bytes(entries, key_bytes);
    check("memory for the entries of the index", need)
}

fn refused(what: &'static str, need: u64) -> Error {
    let limit = rb_io::memory_limit().map_or_else(
        || "the system has not as much".to_owned(),
        |limit| format!("the limit is {} bytes ({})", limit.value, limit.source),
    );
    let why = format!("{need} bytes are needed in addition; {limit}");
    Error::Resource { what, why }
}

/// Converts an error of the index.
pub(crate) fn index_error(why: IndexError) -> Error {
    match why {
        IndexError::Memory { what, need } => refused(what, need),
        other => Error::Resource {
            what: "the index",
            why: other.to_string(),
        },
    }
}
