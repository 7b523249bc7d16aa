//! Findings of recovery are warnings, and a loss becomes final only with consent.

use serde_json::{Value, json};

use crate::bad_input::says;
use crate::program::{Place, rb_with_input};

const RETURNED: &str = "a removed key may have returned";

/// A store with one value, and its `rb info`.
fn filled() -> (Place, Value) {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
    let info = place.rb(&["info", "--json"], &[]).json();
    (place, info)
}

/// A number of one of the regions that `rb info` lists.
pub(crate) fn region(info: &Value, name: &str, field: &str) -> u64 {
    let regions = info["regions"].as_array().unwrap();
    let found = regions.iter().find(|region| region["name"] == name);
    found.unwrap()[field].as_u64().unwrap()
}

/// Damages the header of a base in both of its places.
pub(crate) fn damage_base(place: &Place, info: &Value, name: &str) {
    let number = |field: &str| region(info, name, field);
    // Its header is in two places: the region's first block and its last.
    for block in [0, number("length_bytes") - 4096] {
        place.overwrite(number("offset_bytes") + block + 64, &[0xA5; 16]);
    }
}

#[track_caller]
fn warnings(line: &Value) -> Vec<&str> {
    let list = line["warnings"].as_array();
    let list = list.unwrap_or_else(|| panic!("no warnings: {line}"));
    list.iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn a_sound_store_gives_no_warning() {
    let (place, info) = filled();
    assert_eq!(info["warnings"], json!([]), "{info}");
    for (before, after) in [
        ("info", &[][..]),
        ("ls", &[]),
        ("get", &["k"]),
        ("rm", &["other"]),
    ] {
        let ran = place.rb(&[before], after);
        assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{ran:?}");
    }
}

#[test]
fn every_command_warns_of_lost_metadata_and_none_makes_it_final_without_consent() {
    let (place, info) = filled();
    damage_base(&place, &info, "base_a");
    damage_base(&place, &info, "base_b");
    let before = std::fs::read(&place.store).unwrap();

    for (command, after) in [("info", &[][..]), ("ls", &[]), ("get", &["k"])] {
        let ran = place.rb(&[command], after);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stderr.contains("metadata was lost"), "{ran:?}");
        assert!(ran.stderr.contains(RETURNED), "{ran:?}");
        assert!(
            ran.stderr
                .lines()
                .all(|line| line.starts_with("rb: warning: ")),
            "{ran:?}"
        );
    }
    assert_eq!(place.rb(&["get"], &["k"]).stdout, b"value");
    assert_eq!(place.rb(&["get"], &["absent"]).code, Some(2));
    let line = place.listing();
    assert_eq!(line["entries"], 1, "{line}");
    assert!(warnings(&line)[0].contains(RETURNED), "{line}");

    for (command, after) in [("put", &["k2", "-"][..]), ("rm", &["k"])] {
        let ran = rb_with_input(place.args(&[command], after), b"x");
        assert_eq!((ran.code, ran.stdout.len()), (Some(1), 0), "{ran:?}");
        assert!(ran.stderr.contains("--accept-lost-metadata"), "{ran:?}");
        let ran = rb_with_input(place.args(&[command, "--json"], after), b"x");
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let line = ran.json_line();
        says(
            line["error"].as_str().unwrap(),
            &["lost metadata", "--accept-lost-metadata"],
        );
        assert!(warnings(&line)[0].contains(RETURNED), "{line}");
    }
    assert!(
        std::fs::read(&place.store).unwrap() == before,
        "something was written before it was accepted"
    );

    let args = ["k2", "-", "--accept-lost-metadata"];
    let line = rb_with_input(place.args(&["put", "--json"], &args), b"x").json();
    assert!(warnings(&line)[0].contains(RETURNED), "{line}");
    // After it was accepted, it is the store's content.
    let line = place.listing();
    assert_eq!(line["entries"], 2, "{line}");
    rb_with_input(place.args(&["put"], &["k3", "-"]), b"x").text();
}

#[test]
fn removing_from_a_store_that_lost_metadata_can_be_accepted() {
    let (place, info) = filled();
    damage_base(&place, &info, "base_a");
    damage_base(&place, &info, "base_b");
    let ran = place.rb(&["rm", "--accept-lost-metadata"], &["k"]);
    assert_eq!(ran.text(), "removed 1 of 1\n");
    assert!(ran.stderr.contains(RETURNED), "{ran:?}");
    assert_eq!(place.listing()["entries"], 0);
}

#[test]
fn a_damaged_base_is_a_warning_and_loses_nothing() {
    for name in ["base_a", "base_b"] {
        let (place, info) = filled();
        damage_base(&place, &info, name);
        let line = place.listing();
        assert_eq!(line["entries"], 1, "{line}");
        let said = warnings(&line);
        assert_eq!(said.len(), 1, "{line}");
        assert!(said[0].contains("base is damaged"), "{line}");
        // Nothing is lost, so nothing needs to be accepted.
        let ran = rb_with_input(place.args(&["put"], &["k2", "-"]), b"x");
        assert_eq!(ran.text(), "ok: 1 byte for k2\n");
        assert_eq!(ran.stderr.matches("base is damaged").count(), 1, "{ran:?}");
    }
}

#[test]
fn a_repaired_superblock_is_a_warning() {
    let (place, _) = filled();
    place.overwrite(1 << 20, &[0; 4096]);
    let ran = rb_with_input(place.args(&["put", "--json"], &["k2", "-"]), b"x");
    let line = ran.json();
    assert!(warnings(&line)[0].contains("superblock"), "{line}");
    assert!(ran.stderr.contains("superblock"), "{ran:?}");
    let ran = rb_with_input(place.args(&["put"], &["k2", "-"]), b"x");
    assert_eq!(ran.stderr, "");
}
