//! Describes an edit that does not match the sources, and where its author may have meant.

use std::ops::Range;

use super::sources::{Item, Sources};
use super::tokens::{Token, closest, nearest, places};

/// Maximum number of items that a message offers.
const OFFERS_MAX: usize = 3;
/// Maximum characters of a statement that a message shows.
const SHOWN_MAX: usize = 100;

/// An edit that does not match.
pub(crate) struct Misfit<'a> {
    pub(crate) sources: &'a Sources,
    /// The item that the edit names.
    pub(crate) wanted: &'a str,
    pub(crate) find: &'a str,
    pub(crate) pattern: &'a [Token],
}

impl Misfit<'_> {
    pub(crate) fn no_item(&self, package: &str) -> String {
        let wanted: Vec<char> = self.wanted.chars().collect();
        let mut near: Vec<(usize, usize, &Item)> = Vec::new();
        for item in &self.sources.items {
            let name: Vec<char> = item.name.to_string().chars().collect();
            let (_, distance) = closest(&name, &wanted);
            if distance * 2 <= wanted.len() {
                near.push((distance, name.len(), item));
            }
        }
        // Of equally close matches, prefer the shortest: it has the least unrelated text.
        near.sort_by_key(|(distance, length, _)| (*distance, *length));
        near.truncate(OFFERS_MAX);
        let near = self.offers("; nearest", near.into_iter().map(|(_, _, item)| item));
        let elsewhere = self.elsewhere();
        format!("{package} has no `{}`{near}{elsewhere}", self.wanted)
    }

    pub(crate) fn many_items(&self, items: &[&Item]) -> String {
        let each = items.iter().map(|item| {
            let path = item.name.path().join("::");
            format!("`{path}`, {}", self.sources.shown(item))
        });
        let each: Vec<String> = each.collect();
        let each = each.join("; ");
        format!("`{}` means {} items: {each}", self.wanted, items.len())
    }

    pub(crate) fn no_statement(&self, item: &Item) -> String {
        let sources = self.sources;
        let near = nearest(sources.tokens(item), self.pattern).map(|bytes| {
            let text = brief(&sources.files[item.file].text[bytes.clone()]);
            format!("; nearest: `{text}` ({})", sources.place(item, bytes.start))
        });
        let (shown, find) = (sources.shown(item), brief(self.find));
        let (near, elsewhere) = (near.unwrap_or_default(), self.elsewhere());
        format!("{shown} has no `{find}`{near}{elsewhere}")
    }

    pub(crate) fn many_statements(
        &self,
        item: &Item,
        found: &[Range<usize>],
        due: usize,
    ) -> String {
        let at = found
            .iter()
            .map(|bytes| self.sources.place(item, bytes.start));
        let at: Vec<String> = at.collect();
        let (shown, find) = (self.sources.shown(item), brief(self.find));
        let (count, at) = (found.len(), at.join(", "));
        format!("{shown} has `{find}` {count} times, not {due}: {at}; extend it, or add `nth`")
    }

    /// Lists the items that have the statement.
    fn elsewhere(&self) -> String {
        let sources = self.sources;
        let has = |item: &&Item| !places(sources.tokens(item), self.pattern).is_empty();
        let items = sources.items.iter().filter(has);
        self.offers("; its statement is in", items.take(OFFERS_MAX))
    }

    fn offers<'b>(&self, title: &str, items: impl Iterator<Item = &'b Item>) -> String {
        let shown: Vec<String> = items.map(|item| self.sources.shown(item)).collect();
        match shown.is_empty() {
            true => String::new(),
            false => format!("{title} {}", shown.join(", ")),
        }
    }
}

/// Returns a statement in one line of bounded length.
fn brief(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN_MAX) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}
