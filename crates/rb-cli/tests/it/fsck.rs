//! `rb fsck` and `rb inspect`: exit codes, JSON and consent. Without a repair they change nothing.

use std::fs::File;

use serde_json::Value;

use crate::bad_input::says;
use crate::damage::region;
use crate::program::{Place, Ran, rb, rb_with_input};

/// A store with one value, and its `rb info`.
fn filled() -> (Place, Value) {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), &[7; 9000]).text();
    let info = place.rb(&["info", "--json"], &[]).json();
    (place, info)
}

#[track_caller]
fn shows(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

#[track_caller]
fn state(ran: &Ran, code: i32) -> Value {
    assert_eq!((ran.code, &*ran.stderr), (Some(code), ""), "{ran:?}");
    let line = ran.json_line();
    let name = match code {
        0 => "clean",
        4 => "damaged",
        _ => "unusable",
    };
    assert_eq!(line["state"], name, "{line}");
    line
}

fn base_a(info: &Value) -> u64 {
    region(info, "base_a", "offset_bytes")
}

#[test]
fn exit_codes_distinguish_clean_damaged_and_unusable() {
    let (place, info) = filled();
    let line = state(&place.rb(&["fsck", "--json", "--deep"], &[]), 0);
    assert_eq!(
        (&line["entries"], &line["payloads_read"]),
        (&1.into(), &1.into())
    );
    assert_eq!(line["findings"].as_array().unwrap().len(), 0);
    assert!(line["repair"].is_null());
    let text = place.rb(&["fsck"], &[]).text();
    shows(&text, &["1 live", "clean (0 damaged"]);

    place.overwrite(base_a(&info) + 64, &[0xA5; 16]);
    let line = state(&place.rb(&["fsck", "--json"], &[]), 4);
    let finding = &line["findings"][0];
    assert_eq!(finding["severity"], "damage");
    assert_eq!(finding["offset_bytes"], base_a(&info));
    says(finding["lost"].as_str().unwrap(), &["nothing"]);
    let ran = place.rb(&["fsck"], &[]);
    assert_eq!(ran.code, Some(4));
    shows(
        &String::from_utf8(ran.stdout).unwrap(),
        &["damage: checkpoint base A", "means:", "lost:"],
    );

    for at in [100, (1 << 20) + 100] {
        place.overwrite(at, &[0xA5; 8]);
    }
    let line = state(&place.rb(&["fsck", "--json"], &[]), 8);
    says(
        line["findings"][0]["meaning"].as_str().unwrap(),
        &["rb format"],
    );

    let file = place.file("nothing", &[0; 1 << 16]);
    says(
        &rb(["fsck".as_ref(), file.as_os_str()]).error(),
        &["holds no raw-block store"],
    );
    says(
        &rb(["fsck", "/nonexistent/store"]).error(),
        &["/nonexistent/store"],
    );
    rb(["fsck", "--json", "/nonexistent/store"]).json_error();
}

#[test]
fn looking_leaves_every_byte_as_it_was() {
    let (place, info) = filled();
    for damage in [
        None,
        Some(base_a(&info) + 64),
        Some(100),
        Some((1 << 20) + 100),
    ] {
        if let Some(at) = damage {
            place.overwrite(at, &[0xA5; 8]);
        }
        let before = std::fs::read(&place.store).unwrap();
        place.rb(&["fsck", "--deep"], &[]);
        place.rb(&["fsck", "--deep", "--repair"], &[]);
        place.rb(&["inspect"], &[]);
        place.rb(&["inspect"], &["slot", "--key", "k"]);
        assert!(std::fs::read(&place.store).unwrap() == before, "{damage:?}");
    }
}

#[test]
fn a_repair_needs_consent_and_says_what_it_did() {
    let (place, info) = filled();
    let line = state(&place.rb(&["fsck", "--json", "--repair"], &[]), 0);
    assert_eq!(
        line["repair"]["repaired"], false,
        "a clean store is left alone: {line}"
    );
    for name in ["base_a", "base_b"] {
        crate::damage::damage_base(&place, &info, name);
    }
    // A repair that could not ask refused without a word about what is damaged.
    let ran = place.rb(&["fsck", "--repair"], &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    says(ran.stderr.trim_end(), &["--yes"]);
    shows(
        &String::from_utf8(ran.stdout).unwrap(),
        &["nothing was repaired", "means: metadata is lost"],
    );
    let ran = place.rb(&["fsck", "--repair", "--json"], &[]);
    says(&ran.json_error(), &["--yes"]);
    let line = ran.json_line();
    assert_eq!(
        (&line["state"], &line["repair"]["repaired"]),
        (&"damaged".into(), &false.into())
    );
    assert_eq!(line["findings"].as_array().unwrap().len(), 1, "{line}");
    let line = state(&place.rb(&["fsck", "--repair", "--yes", "--json"], &[]), 0);
    let repair = &line["repair"];
    assert_eq!(
        (&repair["repaired"], &repair["rebuilt"]),
        (&true.into(), &true.into())
    );
    assert_eq!(repair["state_before"], "damaged");
    assert_eq!(repair["findings"].as_array().unwrap().len(), 1, "{line}");
    assert_eq!(place.rb(&["get"], &["k"]).stdout, [7; 9000]);
    let ran = place.rb(&["info"], &[]);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""));
    assert_eq!(place.rb(&["fsck", "--yes"], &[]).code, Some(1));
}

#[test]
fn a_store_in_use_is_not_judged_unless_asked_to() {
    let (place, _) = filled();
    let writer = File::options().write(true).open(&place.store).unwrap();
    writer.lock().unwrap();
    says(&place.rb(&["fsck"], &[]).error(), &["in use", "--force"]);
    state(&place.rb(&["fsck", "--json", "--force"], &[]), 0);
    place.rb(&["inspect"], &[]).text();
    drop(writer);
    state(&place.rb(&["fsck", "--json"], &[]), 0);
}

#[test]
fn structures_are_shown_with_their_places_on_the_device() {
    let (place, info) = filled();
    let text = place.rb(&["inspect"], &[]).text();
    shows(
        &text,
        &[
            "superblock copy B at byte 1048576: sound",
            "rbSUPERB",
            "incarnation block A",
            "delta log",
        ],
    );
    let line = place
        .rb(&["inspect", "--json"], &["base", "--copy", "a"])
        .json();
    let header = &line["structures"][0];
    assert_eq!(header["offset_bytes"], base_a(&info));
    let fields = header["fields"].as_array().unwrap();
    let field = fields
        .iter()
        .find(|field| field["name"] == "base_sequence")
        .unwrap();
    assert_eq!(field["offset_bytes"], base_a(&info) + 40);
    let line = place
        .rb(&["inspect", "--json"], &["slot", "--key", "k"])
        .json();
    says(
        line["structures"][0]["notes"][0].as_str().unwrap(),
        &["live: key k", "9000 bytes"],
    );
    let text = place.rb(&["inspect"], &["log"]).text();
    shows(&text, &["replay starts with block", "1 record,"]);

    place.overwrite(base_a(&info) + 44, &[0xA5]);
    let text = place.rb(&["inspect"], &["base"]).text();
    shows(&text, &["refused", "checksum", "that of the bytes is"]);
    for at in [100, (1 << 20) + 100] {
        place.overwrite(at, &[0xA5; 8]);
    }
    let text = place.rb(&["inspect"], &[]).text();
    shows(&text, &["superblock copy A at byte 0: refused"]);
    says(
        &place.rb(&["inspect"], &["log"]).error(),
        &["no usable superblock"],
    );
    for args in [
        &["slot"][..],
        &["log", "--slot", "1"],
        &["slot", "--copy", "a", "--slot", "1"],
        &["nothing"],
    ] {
        assert_eq!(place.rb(&["inspect"], args).code, Some(1), "{args:?}");
    }
}

/// With both bases lost, each of their four headers was a finding of its own, with "one way less" left to recover; the magic was
/// an array of numbers, and the structure was named twice.
#[test]
fn two_lost_bases_are_one_finding() {
    let (place, info) = filled();
    for base in ["base_a", "base_b"] {
        let start = region(&info, base, "offset_bytes");
        let end = start + region(&info, base, "length_bytes");
        for offset in [start, end - 4096] {
            place.overwrite(offset, b"\xaa\xaarb\0\0\"\n");
        }
    }
    let line = state(&place.rb(&["fsck", "--json"], &[]), 4);
    let findings = line["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{line}");
    let wrong = findings[0]["wrong"].as_str().unwrap();
    assert_eq!(
        wrong,
        r#"no usable checkpoint base (base A: header: the magic is "\xaa\xaarb\x00\x00\"\n", not ours; base B: header: the magic is "\xaa\xaarb\x00\x00\"\n", not ours)"#
    );
    let text = place.rb(&["fsck"], &[]);
    let text = String::from_utf8(text.stdout).unwrap();
    shows(&text, &["means: metadata is lost", "(1 damaged, 0 remarks"]);
    assert!(!text.contains("one way less"), "{text}");

    place.overwrite(base_a(&info), b"\xbb\xbbrb\0\0\"\n");
    let line = state(&place.rb(&["fsck", "--json"], &[]), 4);
    shows(
        line["findings"][0]["wrong"].as_str().unwrap(),
        &["second place: "],
    );
}
