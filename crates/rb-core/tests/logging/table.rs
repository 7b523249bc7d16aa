//! The tables of `docs/monitoring/logging.md`.

use std::collections::BTreeSet;

use crate::capture::Seen;

/// A row: a span or an event.
pub(crate) struct Row {
    pub(crate) is_span: bool,
    pub(crate) name: String,
    pub(crate) level: String,
    pub(crate) fields: BTreeSet<String>,
}

impl Row {
    pub(crate) fn is_of(&self, seen: &Seen) -> bool {
        (self.is_span, &self.name) == (seen.is_span, &seen.name)
    }
}

/// Reads the rows of both tables, which start with `| span |` and `| event |`.
pub(crate) fn read() -> Vec<Row> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/monitoring/logging.md"
    );
    let text = std::fs::read_to_string(path).unwrap();
    let (mut rows, mut is_span) = (Vec::new(), None);
    for line in text.lines() {
        let mut cells = line.split('|').map(|cell| cell.trim().replace('`', ""));
        if cells.next().is_none_or(|before| !before.is_empty()) || !line.starts_with('|') {
            is_span = None;
            continue;
        }
        let cells: Vec<_> = cells.collect();
        match (cells[0].as_str(), is_span) {
            ("span", _) => is_span = Some(true),
            ("event", _) => is_span = Some(false),
            (name, Some(is_span)) if !name.starts_with('-') => rows.push(Row {
                is_span,
                name: name.to_owned(),
                level: cells[1].clone(),
                fields: fields(&cells[2]),
            }),
            _ => {}
        }
    }
    assert!(rows.len() > 20, "{} rows", rows.len());
    rows
}

fn fields(cell: &str) -> BTreeSet<String> {
    let fields = cell.split(',').map(|field| field.trim().to_owned());
    fields.filter(|field| !field.is_empty()).collect()
}
