//! `docs/format.md` says what the code does: its byte tables are compared with the structs.

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};
use std::path::PathBuf;

use crate::base::{BaseHeaderBytes, EntryBytes, SectionBytes, columns};
use crate::incarnation::IncarnationBytes;
use crate::log::{BadSlotBytes, CloseBytes, LogBlockBytes, PutBytes, RemoveBytes};
use crate::slot_header::SlotHeaderBytes;
use crate::superblock::{RunBytes, SuperblockBytes};
use crate::*;

/// Offset, bytes, name of a field.
type Row = (usize, usize, String);

fn field_size<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// The fields of a struct, proven to be all of them: they leave no gap.
macro_rules! rows {
    ($struct:ident: $($field:ident),+) => {{
        let rows: Vec<Row> = vec![$((
            offset_of!($struct, $field),
            field_size(|s: &$struct| &s.$field),
            stringify!($field).to_owned(),
        )),+];
        let end = rows.iter().fold(0, |at, row| {
            assert_eq!(row.0, at, "{}.{}", stringify!($struct), row.2);
            at + row.1
        });
        assert_eq!(end, size_of::<$struct>(), stringify!($struct));
        rows
    }};
}

fn code_tables() -> BTreeMap<&'static str, Vec<Row>> {
    let column = |at: usize, end: usize, name: &str| (at, end - at, name.to_owned());
    BTreeMap::from([
        (
            "Superblock",
            rows!(SuperblockBytes: magic, version, checksum_kind, sequence, uuid, epoch,
            set_uuid, member_index, member_count, key_len_max, metadata_len_max, device_bytes,
            base_a_offset, base_a_bytes, base_b_offset, base_b_bytes, log_offset, log_bytes,
            run_count, format_block, runs, reserved, checksum),
        ),
        (
            "Run",
            rows!(RunBytes: first_byte, stride, count, class, reserved),
        ),
        (
            "Incarnation block",
            rows!(IncarnationBytes: magic, version, number, uuid, epoch, nonce,
            reserved, checksum),
        ),
        (
            "Slot header",
            rows!(SlotHeaderBytes: magic, version, slot, uuid, epoch, generation,
            key_hash, payload_checksum, payload_len, placement, key_len, metadata_len, reserved,
            body, checksum),
        ),
        (
            "Log block",
            rows!(LogBlockBytes: magic, version, incarnation, uuid, epoch, sequence,
            predecessor, durable, record_bytes, record_count, reserved, records, checksum),
        ),
        (
            "Put record",
            rows!(PutBytes: kind, reserved, key_len, slot, generation, payload_len,
            payload_checksum, placement, metadata_len),
        ),
        (
            "Remove record",
            rows!(RemoveBytes: kind, reserved, key_len, generation),
        ),
        ("Bad slot record", rows!(BadSlotBytes: kind, reserved, slot)),
        ("Close record", rows!(CloseBytes: kind, reserved)),
        (
            "Base header",
            rows!(BaseHeaderBytes: magic, version, incarnation, uuid, epoch,
            base_sequence, log_sequence, log_anchor, generation_floor, entries, directory_offset,
            directory_len, directory_checksum, recency_now, sections, bad_slot_count, reserved,
            bad_slots, checksum),
        ),
        (
            "Directory entry",
            rows!(EntryBytes: offset, stored_len, raw_len, hash_first, hash_last,
            log_sequence, checksum, entries, reserved),
        ),
        (
            "Section header",
            rows!(SectionBytes: magic, version, section, uuid, epoch,
            base_sequence, raw_len, entries, codec),
        ),
        (
            "Section columns",
            vec![
                column(columns::KEY_LEN, columns::METADATA_LEN, "key_len"),
                column(columns::METADATA_LEN, columns::SLOT, "metadata_len"),
                column(columns::SLOT, columns::GENERATION, "slot"),
                column(columns::GENERATION, columns::PAYLOAD_LEN, "generation"),
                column(
                    columns::PAYLOAD_LEN,
                    columns::PAYLOAD_CHECKSUM,
                    "payload_len",
                ),
                column(
                    columns::PAYLOAD_CHECKSUM,
                    columns::PLACEMENT,
                    "payload_checksum",
                ),
                column(columns::PLACEMENT, columns::RECENCY, "placement"),
                column(columns::RECENCY, columns::PLANES, "recency"),
            ],
        ),
    ])
}

/// `docs/format.md`; `None` if this crate was taken out of its workspace.
fn document() -> Option<String> {
    let workspace: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect();
    if !workspace.join("ARCHITECTURE.md").exists() && !workspace.join("docs").exists() {
        println!("skipped: no docs beside this crate");
        return None;
    }
    let path = workspace.join("docs/format.md");
    Some(std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// The tables of the document by heading: rows that start with two numbers and a `name`.
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
    let Some(text) = document() else { return };
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
    let Some(text) = document() else { return };
    for magic in magic::ALL {
        let name = String::from_utf8(magic.to_vec()).unwrap();
        assert!(
            text.contains(&format!("`{name}`")),
            "magic {name} is not in docs/format.md"
        );
    }
    let limits: [(&str, u64); 12] = [
        ("FORMAT_VERSION", FORMAT_VERSION.into()),
        ("FORMAT_BLOCK", FORMAT_BLOCK as u64),
        ("KEY_LEN_MAX", KEY_LEN_MAX as u64),
        ("METADATA_LEN_MAX", METADATA_LEN_MAX as u64),
        ("RUNS_MAX", RUNS_MAX as u64),
        ("CLASSES_MAX", CLASSES_MAX as u64),
        ("VALUE_LEN_MAX", VALUE_LEN_MAX),
        ("LOG_BLOCK_PAYLOAD", LOG_BLOCK_PAYLOAD as u64),
        ("RECORD_LEN_MAX", RECORD_LEN_MAX as u64),
        ("SECTION_ENTRIES_MAX", SECTION_ENTRIES_MAX as u64),
        ("SECTION_RAW_MAX", SECTION_RAW_MAX as u64),
        ("BAD_SLOTS_MAX", BAD_SLOTS_MAX as u64),
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
