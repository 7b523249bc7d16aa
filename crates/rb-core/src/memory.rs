//! Memory whose size a device or a caller decides: what it needs is computed first and compared with what there is,
//! so that too much is an error and no abort.

use rb_index::{Index, IndexError};
use rb_io::Arena;

use crate::error::Error;

/// What else an opening or an audit takes meanwhile, in small pieces that nothing counts: decoded sections, stacks of threads.
const SLACK: u64 = 32 << 20;

/// Finds out whether so much memory can be had, before any of it is taken.
///
/// # Errors
/// In words: the need and the limit.
pub(crate) fn check(what: &'static str, need: u64) -> Result<(), Error> {
    let with_slack = need.saturating_add(SLACK);
    let limit = rb_io::memory_limit();
    let fits = limit.is_none_or(|limit| with_slack <= limit.value);
    // Mapped and given back: nothing touches it.
    let there = usize::try_from(with_slack).is_ok_and(|bytes| Arena::allocate(bytes).is_ok());
    match fits && there {
        true => Ok(()),
        false => Err(refused(what, need)),
    }
}

/// As [`check`], for entries that are about to be loaded.
pub(crate) fn check_entries(entries: u64, key_bytes: u64) -> Result<(), Error> {
    let need = Index::entries_bytes(entries, key_bytes);
    check("memory for the entries of the index", need)
}

fn refused(what: &'static str, need: u64) -> Error {
    let limit = rb_io::memory_limit().map_or_else(
        || "the system has not as much".to_owned(),
        |limit| format!("the limit is {} bytes ({})", limit.value, limit.source),
    );
    let why = format!("{need} bytes are needed, {limit}");
    Error::Resource { what, why }
}

/// What the index says of its options or its memory.
pub(crate) fn index_error(why: IndexError) -> Error {
    match why {
        IndexError::Memory { what, need } => refused(what, need),
        other => Error::Resource {
            what: "the index",
            why: other.to_string(),
        },
    }
}
