//! The reports of `rb fsck`, `rb info` and `rb format` on one damage, in agreement with each other.

use serde_json::Value;

use crate::bad_input::says;
use crate::damage::region;
use crate::program::{Place, rb_with_input};

const BLOCK: usize = 4096;

/// A store that was closed three times, and its `rb info`.
fn filled() -> (Place, Value) {
    let place = Place::formatted();
    for key in ["a", "b", "c"] {
        rb_with_input(place.args(&["put"], &[key, "-"]), b"value").text();
    }
    let info = place.rb(&["info", "--json"], &[]).json();
    (place, info)
}

fn findings(place: &Place, code: i32) -> Vec<Value> {
    let ran = place.rb(&["fsck", "--json"], &[]);
    assert_eq!(ran.code, Some(code), "{ran:?}");
    ran.json_line()["findings"].as_array().unwrap().clone()
}

fn text(finding: &Value, field: &str) -> String {
    finding[field].as_str().unwrap().to_owned()
}

/// A log that was lost in both rings was reported as damage of the base that needs it, though that base is whole.
#[test]
fn a_lost_log_is_not_damage_of_a_base() {
    let (place, info) = filled();
    for ring in ["log_1", "log_2"] {
        let at = region(&info, ring, "offset_bytes");
        let len = region(&info, ring, "length_bytes") as usize;
        place.overwrite(at, &vec![0; len]);
    }
    let found = findings(&place, 4);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        text(&found[0], "structure").starts_with("log block"),
        "{found:?}"
    );
    says(
        &text(&found[0], "wrong"),
        &["missing or damaged in both rings", "base A needs them"],
    );
    let shown = place.rb(&["info"], &[]).text();
    assert!(shown.contains("or the close record was lost"), "{shown}");
}

/// One lost block that a later one proves is one block, also where recovery does not need the rest.
#[test]
fn one_lost_log_block_is_one() {
    let (place, info) = filled();
    for ring in ["log_1", "log_2"] {
        // Base A was written after block 3.
        let at = region(&info, ring, "offset_bytes") + 4 * BLOCK as u64;
        place.overwrite(at, &[0; BLOCK]);
    }
    let found = findings(&place, 4);
    assert_eq!(text(&found[0], "structure"), "log block 4", "{found:?}");
    says(
        &text(&found[0], "wrong"),
        &["base A needs it", "block 5 names"],
    );
}

/// fsck promised that the next openings would rewrite the incarnation blocks, and the next opening was refused because
/// both are gone. Zeros were "something else".
#[test]
fn lost_incarnation_blocks_have_one_story() {
    for (bytes, what) in [(0, "zeros"), (0xA5, "something else")] {
        let (place, _) = filled();
        place.overwrite(4096, &[bytes; 2 * BLOCK]);
        for finding in findings(&place, 4) {
            says(
                &text(&finding, "meaning"),
                &["refused", "`rb fsck --repair --force`"],
            );
        }
        let refused = rb_with_input(place.args(&["put"], &["k", "-"]), b"v").error();
        says(
            &refused,
            &[what, "in the place of both incarnation blocks", "--force"],
        );
        says(
            &place.rb(&["fsck", "--repair", "--yes"], &[]).error(),
            &[what],
        );
        place
            .rb(&["fsck", "--repair", "--yes", "--force"], &[])
            .text();
        rb_with_input(place.args(&["put"], &["k", "-"]), b"v").text();
    }
    // One block that is gone is written again by the next openings.
    let (place, _) = filled();
    place.overwrite(4096, &[0xA5; BLOCK]);
    says(
        &text(&findings(&place, 4)[0], "meaning"),
        &["next openings for writing rewrite it"],
    );
    rb_with_input(place.args(&["put"], &["k", "-"]), b"v").text();
}

/// With both superblock copies erased, fsck spoke of a store, info of none and format of unknown data. The advice was
/// `rb format`, which refuses without the flags that it needs.
#[test]
fn lost_superblocks_have_one_story() {
    let (place, _) = filled();
    for at in [0, 1 << 20] {
        place.overwrite(at, &[0; BLOCK]);
    }
    let found = findings(&place, 8);
    says(
        &text(&found[0], "meaning"),
        &["they were erased", "`rb format --yes` makes"],
    );
    let info = place.rb(&["info"], &[]).error();
    says(
        &info,
        &[
            "no raw-block store, only remains of one",
            "copies were erased",
        ],
    );
    let args = ["--slot-bytes", "64KiB"];
    says(
        &place.rb(&["format"], &args).error(),
        &["the remains of a raw-block store", "--yes"],
    );
    place.rb(&["format", "--yes"], &args).text();

    for at in [100, (1 << 20) + 100] {
        place.overwrite(at, &[0xA5; 8]);
    }
    for finding in findings(&place, 8) {
        says(
            &text(&finding, "meaning"),
            &["`rb format --yes --force` makes"],
        );
        assert!(text(&finding, "wrong").starts_with("checksum"), "{finding}");
    }
    says(
        &place.rb(&["info"], &[]).error(),
        &["copy A: checksum", "copy B: checksum"],
    );
    says(
        &place.rb(&["format", "--yes"], &args).error(),
        &["--yes --force"],
    );
    place.rb(&["format", "--yes", "--force"], &args).text();
}

/// In a file that was cut, an entry behind the end was "a miss when it is read" although the store does not open, and
/// a slot there had "old content".
#[test]
fn slots_behind_the_end_of_a_file_are_named_so() {
    let (place, info) = filled();
    let first = region(&info, "slots", "offset_bytes");
    let slot = |number: u64| first + number * 17 * BLOCK as u64;
    // The header of slot 2 is there, its payload is not.
    let end = slot(2) + BLOCK as u64;
    let file = std::fs::File::options()
        .write(true)
        .open(&place.store)
        .unwrap();
    file.set_len(end).unwrap();
    let found = findings(&place, 8);
    let of_slot = found
        .iter()
        .find(|found| found["structure"] == "slot 2")
        .unwrap();
    says(
        &text(of_slot, "wrong"),
        &[&format!("the device at byte {end}")],
    );
    says(&text(of_slot, "meaning"), &["does not open"]);
    let inspect = |slot: &str| place.rb(&["inspect"], &["slot", "--slot", slot]).text();
    let shown = inspect("2");
    assert!(
        shown.contains("live: key c: part of the value lies behind the end"),
        "{shown}"
    );
    let shown = inspect("63");
    assert!(
        shown.contains("refused: it lies behind the end of the device"),
        "{shown}"
    );
    assert!(
        shown.contains("not live") && !shown.contains("old"),
        "{shown}"
    );
    assert!(inspect("1").contains("header and payload match"));
}

/// A base without a header was two findings, with the structure named twice and zeros shown byte by byte. Entries from
/// slot headers came "from base none".
#[test]
fn findings_are_named_once() {
    let (place, info) = filled();
    let start = region(&info, "base_b", "offset_bytes");
    let last = start + region(&info, "base_b", "length_bytes") - BLOCK as u64;
    for at in [start, last] {
        place.overwrite(at, &[0; BLOCK]);
    }
    let found = findings(&place, 4);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(text(&found[0], "wrong"), "both headers: the magic is zero");
    says(&text(&found[0], "meaning"), &["one fewer way"]);
    place.overwrite(last, &[0xA5; BLOCK]);
    let found = findings(&place, 4);
    assert_eq!(found.len(), 1, "{found:?}");
    says(
        &text(&found[0], "wrong"),
        &["first header: the magic is zero; second header: "],
    );

    crate::damage::damage_base(&place, &info, "base_a");
    let found = findings(&place, 4);
    says(
        &text(&found[0], "lost"),
        &["slot headers show 3 entries, 3 of them the newest"],
    );
    let shown = place.rb(&["info"], &[]).text();
    assert!(
        shown.contains("3 entries from slot headers, without metadata in"),
        "{shown}"
    );

    let (place, _) = filled();
    place.overwrite(100, &[0xA5; 8]);
    let found = findings(&place, 4);
    assert!(
        text(&found[0], "wrong").starts_with("checksum"),
        "{found:?}"
    );
    says(
        &text(&found[0], "meaning"),
        &["`rb fsck --repair --force` rewrites it"],
    );
}
