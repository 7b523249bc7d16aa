//! Compares the byte tables of `docs/format.md` with the structs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::base::columns;
use crate::describe::tables::Place;
use crate::*;

/// Offset, bytes and name of a field.
type Row = (usize, usize, String);

/// The fields of a structure, checked to leave no gap.
fn rows(structure: Structure) -> Vec<Row> {
    let places = structure.places();
    let mut at = 0;
    for place in &places {
        assert_eq!(place.offset, at, "{}.{}", structure.name(), place.name);
        at += place.len;
    }
    assert_eq!(at, structure.bytes(), "{}", structure.name());
    let row = |place: &Place| (place.offset, place.len, place.name.to_owned());
    places.iter().map(row).collect()
}

fn code_tables() -> BTreeMap<&'static str, Vec<Row>> {
    let mut tables: BTreeMap<_, _> = Structure::ALL
        .iter()
        .map(|structure| (structure.name(), rows(*structure)))
        .collect();
    let ends = [
        ("key_len", columns::KEY_LEN),
        ("metadata_len", columns::METADATA_LEN),
        ("slot", columns::SLOT),
        ("generation", columns::GENERATION),
        ("payload_len", columns::PAYLOAD_LEN),
        ("payload_checksum", columns::PAYLOAD_CHECKSUM),
        ("placement", columns::PLACEMENT),
        ("recency", columns::RECENCY),
        ("policy", columns::POLICY),
        ("expiry", columns::EXPIRY),
        ("more_slots", columns::MORE_SLOTS),
        ("", columns::PLANES),
    ];
    let column = |pair: &[(&str, usize)]| (pair[0].1, pair[1].1 - pair[0].1, pair[0].0.to_owned());
    tables.insert("Section columns", ends.windows(2).map(column).collect());
    tables
}

/// Returns a document of `docs`; `None` if this crate is outside its workspace.
pub(super) fn document(name: &str) -> Option<String> {
    let workspace: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect();
    if !workspace.join("ARCHITECTURE.md").exists() && !workspace.join("docs").exists() {
        println!("skipped: no docs next to this crate");
        return None;
    }
    let path = workspace.join("docs").join(name);
    Some(std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Returns the tables of the document by heading: rows that start with two numbers and a `name`.
fn document_tables(text: &str) -> BTreeMap<&str, Vec<Row>> {
    let mut tables: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    let mut heading = "";
    for line in text.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, offset, bytes, name, ..] = cells[..] else {
            continue;
        };
        let (Ok(offset), Ok(bytes)) = (offset.parse(), bytes.parse()) else {
            continue;
        };
        let row = (offset, bytes, name.trim_matches('`').to_owned());
        tables.entry(heading).or_default().push(row);
    }
    tables
}

#[test]
fn byte_tables_match_the_code() {
    let Some(text) = document("format.md") else {
        return;
    };
    let (in_document, in_code) = (document_tables(&text), code_tables());
    for (heading, rows) in &in_code {
        assert_eq!(
            in_document.get(heading),
            Some(rows),
            "table under the heading {heading:?}"
        );
    }
    let documented: Vec<_> = in_document.keys().collect();
    assert_eq!(documented, in_code.keys().collect::<Vec<_>>());
}

#[test]
fn magics_and_limits_match_the_code() {
    let Some(text) = document("format.md") else {
        return;
    };
    for magic in magic::ALL {
        let name = String::from_utf8(magic.to_vec()).unwrap();
        assert!(
            text.contains(&format!("`{name}`")),
            "magic {name} is not in docs/format.md"
        );
    }
    let limits: [(&str, u64); 19] = [
        ("FORMAT_VERSION", FORMAT_VERSION.into()),
        ("FORMAT_BLOCK", FORMAT_BLOCK as u64),
        ("KEY_LEN_MAX", KEY_LEN_MAX as u64),
        ("METADATA_LEN_MAX", METADATA_LEN_MAX as u64),
        ("RUNS_MAX", RUNS_MAX as u64),
        ("CLASSES_MAX", CLASSES_MAX as u64),
        ("SLOT_BYTES_MAX", SLOT_BYTES_MAX),
        ("VALUE_SLOTS_MAX", VALUE_SLOTS_MAX as u64),
        ("VALUE_LEN_MAX", VALUE_LEN_MAX),
        ("LABEL_LEN", LABEL_LEN as u64),
        ("SECTION_RANGES", SECTION_RANGES as u64),
        ("SECTION_RAW_MIN", SECTION_RAW_MIN as u64),
        ("SEQUENCE_MAX", SEQUENCE_MAX),
        ("LOG_BLOCK_PAYLOAD", LOG_BLOCK_PAYLOAD as u64),
        ("RECORD_LEN_MAX", RECORD_LEN_MAX as u64),
        ("SECTION_ENTRIES_MAX", SECTION_ENTRIES_MAX as u64),
        ("SECTION_RAW_MAX", SECTION_RAW_MAX as u64),
        ("BAD_SLOTS_MAX", BAD_SLOTS_MAX as u64),
        ("BAD_BLOCKS_MAX", BAD_BLOCKS_MAX as u64),
    ];
    for (name, value) in limits {
        let row = format!("| `{name}` | {value} |");
        assert!(text.contains(&row), "docs/format.md lacks the row {row}");
    }
    let places = [
        ("superblock A", SUPERBLOCK_A_OFFSET),
        ("incarnation A", INCARNATION_A_OFFSET),
        ("incarnation B", INCARNATION_B_OFFSET),
        ("superblock B", SUPERBLOCK_B_OFFSET),
        ("base A", METADATA_START),
    ];
    for (name, byte) in places {
        let row = format!("| {name} | {byte} |");
        assert!(text.contains(&row), "docs/format.md lacks the row {row}");
    }
}
