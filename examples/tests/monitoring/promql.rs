//! Metrics and labels in expressions. Their syntax is checked by promtool.

use crate::table::Series;

/// A metric of an expression, and the values that it asks of labels.
#[derive(Debug)]
pub(crate) struct Selector<'a> {
    pub(crate) name: &'a str,
    pub(crate) matchers: Vec<(&'a str, Vec<&'a str>)>,
}

/// Returns the metrics of stores in an expression. A matcher by regular expression may be a list: `a|b`.
pub(crate) fn selectors(expr: &str) -> Vec<Selector<'_>> {
    let mut found = Vec::new();
    let mut rest = expr;
    while let Some(at) = rest.find("raw_block_") {
        let (name, after) = word(&rest[at..]);
        let (inside, after) = match after.strip_prefix('{') {
            Some(after) => after.split_once('}').expect("braces are closed"),
            None => ("", after),
        };
        rest = after;
        let matchers = inside.split(',').filter(|matcher| !matcher.is_empty());
        let matchers = matchers.map(|matcher| {
            let (label, value) = matcher.split_once('=').expect("only = and =~ are used");
            let value = value.trim_start_matches('~').trim_matches('"');
            (label.trim(), value.split('|').collect())
        });
        let matchers = matchers.collect();
        found.push(Selector { name, matchers });
    }
    found
}

/// Returns the labels that an expression groups or joins by.
pub(crate) fn groupings(expr: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for keyword in ["by (", "without (", "ignoring (", "on ("] {
        for after in expr.split(keyword).skip(1) {
            let (labels, _) = after.split_once(')').expect("parentheses are closed");
            found.extend(labels.split(',').map(str::trim));
        }
    }
    found
}

/// Returns the labels that a legend shows.
pub(crate) fn legend(format: &str) -> Vec<&str> {
    let labels = format.split("{{").skip(1);
    labels
        .filter_map(|after| Some(after.split_once("}}")?.0.trim()))
        .collect()
}

/// Returns true if a line of the exposition is a sample of a series of a store.
pub(crate) fn is_series(line: &str, (name, labels): &Series, store: &str) -> bool {
    let (found, after) = word(line);
    let Some((inside, _)) = after
        .strip_prefix('{')
        .and_then(|in_braces| in_braces.split_once('}'))
    else {
        return false;
    };
    let has = |label: &str, value: &str| {
        let pair = format!("{label}=\"{value}\"");
        inside.split(',').any(|part| part == pair)
    };
    found == name && has("store", store) && labels.iter().all(|(label, value)| has(label, value))
}

/// Splits off the name at the start of a text.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    text.split_at(end.unwrap_or(text.len()))
}
