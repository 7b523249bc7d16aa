//! A listing of the entries in pages, without I/O.

use std::collections::BTreeMap;

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

/// Scans the whole index and keeps the `limit` entries of the lowest ranks above `after`. `None` if
/// the store is closed.
fn by_age(inner: &Inner, order: ListOrder, after: u64, limit: usize) -> Option<Page> {
    let rank_of = |generation: u64| match order {
        ListOrder::NewestFirst => !generation,
        ListOrder::OldestFirst | ListOrder::Any => generation,
    };
    let (mut page, mut beyond) = (BTreeMap::new(), false);
    let (mut scan, mut more) = (EntryScan::default(), true);
    while more {
        let _pass = inner.enter().ok()?;
        let now = now(inner);
        more = scan.step(&inner.index, ENTRIES_PER_HOLD, &mut |entry| {
            let rank = rank_of(entry.located.generation);
            if rank <= after || is_over(entry.located.expiry, now) {
                return;
            }
            if page.len() == limit {
                beyond = true;
                if page.last_key_value().is_some_and(|(last, _)| rank > *last) {
                    return;
                }
                page.pop_last();
            }
            page.insert(rank, EntryInfo::new(inner, &entry));
        });
    }
    let last = page.last_key_value().map(|(&rank, _)| rank);
    let next = last
        .filter(|_| beyond)
        .map(|rank| ListCursor(Position::Age { order, rank }));
    Some((page.into_values().collect(), next))
}
