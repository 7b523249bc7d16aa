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

/// Above the rank of every entry: generations are at least 1, and end before the largest number.
const NO_RANK: u64 = u64::MAX;

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

/// Returns the `limit` entries of the lowest ranks above `after`. If these may not be all, scans the index twice: for their
/// ranks alone, which is cheap, and for the entries. `None` if the store is closed.
fn by_age(inner: &Inner, order: ListOrder, after: u64, limit: usize) -> Option<Page> {
    let rank_of = |entry: &SnapshotEntry<'_>| match order {
        ListOrder::NewestFirst => !entry.located.generation,
        ListOrder::OldestFirst | ListOrder::Any => entry.located.generation,
    };
    let classes = inner.index.stats().classes;
    let live: u64 = classes.iter().map(|class| class.live).sum();
    let highest = match live <= limit as u64 {
        true => NO_RANK,
        false => highest_of_page(inner, &rank_of, after, limit)?,
    };
    let mut page = Vec::new();
    each_live(inner, &mut |entry| {
        let rank = rank_of(entry);
        // Of the last page no rank is too high: a key that is replaced meanwhile has a new one.
        if after < rank && rank <= highest {
            page.push((rank, EntryInfo::new(inner, entry)));
        }
    })?;
    page.sort_unstable_by_key(|(rank, _)| *rank);
    // Entries that were put meanwhile may have low ranks.
    let more = highest != NO_RANK || page.len() > limit;
    page.truncate(limit);
    let rank = page.last().map_or(highest, |(rank, _)| *rank);
    let next = more.then_some(ListCursor(Position::Age { order, rank }));
    Some((page.into_iter().map(|(_, entry)| entry).collect(), next))
}

/// Returns the highest of the `limit` lowest ranks above `after`; [`NO_RANK`] if there are no more than these. `None` if the
/// store is closed.
fn highest_of_page(
    inner: &Inner,
    rank_of: &dyn Fn(&SnapshotEntry<'_>) -> u64,
    after: u64,
    limit: usize,
) -> Option<u64> {
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
    let highest = lowest.peek().copied().filter(|_| beyond);
    Some(highest.unwrap_or(NO_RANK))
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
