//! Compares the table of `docs/sizing.md` with the layouts that `plan` makes.

use super::doc_tables::document;
use crate::{ClassRequest, Geometry, Identity, LayoutRequest, Share, StoreUuid, Superblock, plan};

const TIB: u64 = 1 << 40;
/// Bytes of an index entry without its key, as assumed in `docs/sizing.md`.
const INDEX_ENTRY: u64 = 72;
/// Capacity of a slot of the class that `rb format` makes by default.
const MIB: u64 = 1 << 20;
const KEY: u64 = 32;

/// Returns the last six cells of a row: slot, values per TiB, share of payload, index memory, metadata, and the share of
/// payload with slots of 1 MiB.
fn cells(object: u64) -> [String; 6] {
    let slot_bytes = object.next_multiple_of(4096);
    let superblock = layout(slot_bytes);
    let slots = u64::from(Geometry::new(&superblock).slots());
    let bases: u64 = superblock.bases().map(|base| base.bytes).iter().sum();
    let metadata = bases + superblock.policy.bytes + 2 * superblock.log.bytes;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB as f64);
    let share = |values: u64| format!("{:.2} %", (values * object) as f64 * 100.0 / TIB as f64);
    let shared = Geometry::new(&layout(MIB));
    let (_, each) = shared.slots_for(object).expect("at most 256 slots");
    [
        slot_bytes.to_string(),
        slots.to_string(),
        share(slots),
        mib(slots * (INDEX_ENTRY + KEY)),
        mib(metadata),
        share(u64::from(shared.slots()) / each as u64),
    ]
}

/// Returns the layout of 1 TiB with one class.
fn layout(slot_bytes: u64) -> Superblock {
    let request = LayoutRequest {
        device_bytes: TIB,
        classes: vec![ClassRequest {
            slot_bytes,
            share: Share::Rest,
        }],
        key_len_max: 64,
        metadata_len_max: 0,
        log_bytes: None,
    };
    let identity = Identity {
        uuid: StoreUuid([1; 16]),
        epoch: 1,
    };
    plan(&request, identity).expect("a TiB holds some slots")
}

#[test]
fn the_table_of_models_is_what_plan_makes() {
    let Some(text) = document("sizing.md") else {
        return;
    };
    let (_, table) = text
        .split_once("<!-- plan -->")
        .expect("the table is marked");
    let (table, _) = table
        .trim_start()
        .split_once("\n\n")
        .expect("the table ends");
    let mut rows = 0;
    for line in table.lines().skip(2) {
        let found: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let object: u64 = found[1]
            .replace(',', "")
            .parse()
            .expect("bytes of an object");
        assert_eq!(found[2..], cells(object), "{}", found[0]);
        rows += 1;
    }
    assert!(rows > 10, "only {rows} rows");
}
