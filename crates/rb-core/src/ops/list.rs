//! A listing of the entries in pages, without I/O.

use std::collections::BinaryHeap;

use rb_index::SnapshotEntry;

use crate::core::entry_scan::EntryScan;
use crate::core::expiry::{is_over, now};
use crate::core::inner::Inner;
use crate::ops::query::{ENTRIES_PER_HOLD, EntryInfo};

/// The order of a listing, and its beginning: see [`Store::list`](crate::Store::list).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrder {
    /// No particular order. A page costs time in proportion to its length.
    Any,
    /// The order in which the entries were put.
    OldestFirst,
    /// The reverse of it.
    NewestFirst,
}

/// The position of a listing after a page.
///
/// In the order of age it remains valid when the store is closed and opened again; otherwise it is
/// valid as long as the store is open.
#[derive(Clone, Debug)]
pub struct ListCursor(Position);

#[derive(Clone, Debug)]
enum Position {
    Index(EntryScan),
    /// After the entry of this rank.
    Age {
        order: ListOrder,
        rank: u64,
    },
}

impl From<ListOrder> for ListCursor {
    fn from(order: ListOrder) -> ListCursor {
        ListCursor(match order {
            ListOrder::Any => Position::Index(EntryScan::default()),
            // No entry has rank 0: generations are at least 1, and end before the largest number.
            ListOrder::OldestFirst | ListOrder::NewestFirst => Position::Age { order, rank: 0 },
        })
    }
}

/// The next entries of a listing, at most `limit`, and where it continues.
pub(crate) type Page = (Vec<EntryInfo>, Option<ListCursor>);

/// Returns the next page of a listing. No entries and no continuation if the store is closed.
pub(crate) fn list(inner: &Inner, from: ListCursor, limit: usize) -> Page {
    let limit = limit.max(1);
    let page = match from.0 {
        Position::Index(scan) => in_any_order(inner, scan, limit),
        Position::Age { order, rank } => by_age(inner, order, rank, limit),
    };
    page.unwrap_or_default()
}

/// `None` if the store is closed.
fn in_any_order(inner: &Inner, mut scan: EntryScan, limit: usize) -> Option<Page> {
    let (mut page, mut more) = (Vec::new(), true);
    while more && page.len() < limit {
        let _pass = inner.enter().ok()?;
        let max = ENTRIES_PER_HOLD.min(limit - page.len());
        let now = now(inner);
        more = scan.step(&inner.index, max, &mut |entry| {
            if !is_over(entry.located.expiry, now) {
                page.push(EntryInfo::new(inner, &entry));
            }
        });
    }
    Some((page, more.then_some(ListCursor(Position::Index(scan)))))
}

/// Returns the `limit` entries of the lowest ranks above `after`. Scans the whole index twice: for the ranks alone, which is
/// cheap, and for the entries up to the last of these. `None` if the store is closed.
fn by_age(inner: &Inner, order: ListOrder, after: u64, limit: usize) -> Option<Page> {
    let rank_of = |entry: &SnapshotEntry<'_>| match order {
        ListOrder::NewestFirst => !entry.located.generation,
        ListOrder::OldestFirst | ListOrder::Any => entry.located.generation,
    };
    // The highest rank on top.
    let (mut lowest, mut beyond) = (BinaryHeap::new(), false);
    each_live(inner, &mut |entry| {
        let rank = rank_of(entry);
        if rank <= after {
            return;
        }
        if lowest.len() == limit {
            beyond = true;
            if lowest.peek().is_some_and(|highest| rank > *highest) {
                return;
            }
            lowest.pop();
        }
        lowest.push(rank);
    })?;
    let Some(highest) = lowest.into_iter().max() else {
        return Some((Vec::new(), None));
    };
    // Of the last page no rank is too high: a key that is replaced between the scans has a new one.
    let highest = if beyond { highest } else { u64::MAX };
    let mut page = Vec::new();
    each_live(inner, &mut |entry| {
        let rank = rank_of(entry);
        if after < rank && rank <= highest {
            page.push((rank, EntryInfo::new(inner, entry)));
        }
    })?;
    page.sort_unstable_by_key(|(rank, _)| *rank);
    // Entries that were put meanwhile may have low ranks.
    beyond |= page.len() > limit;
    page.truncate(limit);
    let last = page.last().map_or(highest, |(rank, _)| *rank);
    let next = beyond.then_some(ListCursor(Position::Age { order, rank: last }));
    Some((page.into_iter().map(|(_, entry)| entry).collect(), next))
}

/// Passes every entry whose time is not over. `None` if the store is closed.
fn each_live(inner: &Inner, each: &mut dyn FnMut(&SnapshotEntry<'_>)) -> Option<()> {
    let (mut scan, mut more) = (EntryScan::default(), true);
    while more {
        let _pass = inner.enter().ok()?;
        let now = now(inner);
        more = scan.step(&inner.index, ENTRIES_PER_HOLD, &mut |entry| {
            if !is_over(entry.located.expiry, now) {
                each(&entry);
            }
        });
    }
    Some(())
}
