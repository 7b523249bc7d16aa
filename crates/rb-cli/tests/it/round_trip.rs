//! The basic commands, with and without `--json`.

use std::process::{Command, Stdio};

use rb_core::{Store, StoreOptions};
use serde_json::json;

use crate::program::{Place, arg, rb, rb_with_input};

#[test]
fn values_go_in_and_come_out_and_go() {
    let place = Place::formatted();
    let value: Vec<u8> = (0..50_000_u32).map(|at| (at * 7 % 251) as u8).collect();
    let file = place.file("value", &value);
    assert_eq!(
        place.rb(&["put"], &["chat/1", arg(&file)]).text(),
        "ok: 50000 bytes for chat/1\n"
    );

    let got = place.rb(&["get"], &["chat/1"]);
    assert_eq!((got.code, got.stdout), (Some(0), value.clone()));

    let copy = place.path("copy");
    let line = place
        .rb(&["get", "--json"], &["chat/1", "-o", arg(&copy)])
        .json();
    assert_eq!(std::fs::read(&copy).unwrap(), value);
    assert_eq!(line["value_bytes"], 50_000);
    assert_eq!(line["key"], "chat/1");
    assert_eq!(line["found"], true);
    assert!(line["generation"].as_u64().unwrap() > 0);

    let listing = place.listing();
    assert_eq!(listing["entries"], 1);
    assert_eq!(listing["listing"][0]["key"], "chat/1");
    assert_eq!(listing["listing"][0]["slot_bytes"], 65536);
    let text = place.rb(&["ls"], &[]).text();
    assert!(text.starts_with("chat/1\t50000\t"), "{text}");

    let removed = place.rb(&["rm", "--json"], &["chat/1", "chat/2"]).json();
    assert_eq!(
        (&removed["keys"], &removed["removed"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(place.listing()["entries"], 0);
}

#[test]
fn a_miss_is_exit_code_2_and_leaves_the_output_file_alone() {
    let place = Place::formatted();
    let miss = place.rb(&["get"], &["absent"]);
    assert_eq!(
        (miss.code, miss.stdout.len(), miss.stderr.as_str()),
        (Some(2), 0, "")
    );

    let file = place.file("old", b"old");
    let miss = place.rb(&["get", "--json"], &["absent", "-o", arg(&file)]);
    assert_eq!(miss.code, Some(2));
    let line = miss.json_line();
    assert_eq!(
        (&line["key"], &line["found"]),
        (&json!("absent"), &json!(false)),
        "{line}"
    );
    assert!(line["value_bytes"].is_null(), "{line}");
    assert_eq!(std::fs::read(&file).unwrap(), b"old");
}

#[test]
fn put_reads_standard_input_keeps_and_replaces() {
    let place = Place::formatted();
    let put = |extra: &[&str], value: &[u8]| {
        let args = [&["k", "-"], extra].concat();
        rb_with_input(place.args(&["put", "--json"], &args), value).json()
    };
    let get = || place.rb(&["get"], &["k"]).stdout;
    assert_eq!(
        put(&[], b"one"),
        json!({
            "schema": 1, "command": "put", "error": null, "warnings": [],
            "key": "k", "value_bytes": 3, "stored": true,
        })
    );
    assert_eq!(put(&["--keep"], b"two")["stored"], false);
    assert_eq!(get(), b"one");
    assert_eq!(put(&[], b"three")["stored"], true);
    assert_eq!(get(), b"three");
}

#[test]
fn metadata_comes_back() {
    let place = Place::formatted();
    let args = place.args(&["put"], &["k", "-", "--metadata", "f16 [2, 8]"]);
    rb_with_input(args, b"x").text();
    let line = place
        .rb(&["get", "--json"], &["k", "-o", "/dev/null"])
        .json();
    assert_eq!(line["metadata"], "f16 [2, 8]");
}

#[test]
fn keys_may_be_bytes_and_listings_can_be_narrowed() {
    let place = Place::formatted();
    for key in ["hex:ff00", "chat/1", "chat/2", "note"] {
        rb_with_input(place.args(&["put"], &[key, "-"]), key.as_bytes()).text();
    }
    assert_eq!(place.rb(&["get"], &["hex:6e6f7465"]).stdout, b"note");
    let keys = |args: &[&str]| -> Vec<String> {
        let text = place.rb(&["ls"], args).text();
        text.lines()
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(keys(&[]), ["chat/1", "chat/2", "note", "hex:ff00"]);
    assert_eq!(keys(&["--prefix", "chat/"]), ["chat/1", "chat/2"]);
    assert_eq!(keys(&["--prefix", "hex:ff"]), ["hex:ff00"]);
    // Listed keys can be copied to other commands.
    assert_eq!(
        place
            .rb(&["get"], &[&keys(&["--prefix", "hex:ff"])[0]])
            .stdout,
        b"hex:ff00"
    );
    assert_eq!(place.listing()["listing"][3]["key"], "hex:ff00");
    assert_eq!(
        place.rb(&["rm"], &["hex:ff00", "note"]).text(),
        "removed 2 of 2\n"
    );
    assert_eq!(keys(&[]), ["chat/1", "chat/2"]);
}

#[test]
fn format_says_what_it_made_and_info_finds_it() {
    let place = Place::new();
    let made = place
        .rb(
            &["format", "--json"],
            &[
                "--slot-bytes",
                "64KiB:25%,4KiB:75%",
                "--size",
                "64MiB",
                "--key-bytes",
                "40",
                "--sparse",
            ],
        )
        .json();
    assert_eq!(made["key_bytes_max"], 40);
    assert_eq!(
        made["classes"][0]["slot_bytes"], 4096,
        "classes are in increasing size"
    );
    let used = made["layout_bytes"].as_u64().unwrap();
    assert!((60 << 20..=64 << 20).contains(&used), "{used}");
    assert_eq!(std::fs::metadata(&place.store).unwrap().len(), 64 << 20);

    rb_with_input(place.args(&["put"], &["small", "-"]), b"x").text();
    rb_with_input(place.args(&["put"], &["large", "-"]), &[1; 5000]).text();
    let info = place.rb(&["info", "--json"], &[]).json();
    assert_eq!(info["uuid"], made["uuid"]);
    assert_eq!(info["epoch"], 1);
    assert_eq!(info["live_slots"], 2);
    assert_eq!(info["slots"], made["slots"]);
    assert_eq!(info["classes"][0]["live_slots"], 1);
    assert_eq!(info["classes"][1]["live_slots"], 1);
    let share = info["classes"][1]["space_ratio"].as_f64().unwrap();
    assert!((0.24..0.26).contains(&share), "{share}");
    assert_eq!(info["recovery"]["clean"], true);
    assert_eq!(info["superblock"]["copy_a"], "ok");
    assert_eq!(info["superblock"]["copy_b"], "ok");
    let text = place.rb(&["info"], &[]).text();
    assert!(text.contains(made["uuid"].as_str().unwrap()), "{text}");
}

#[test]
fn info_sees_a_damaged_superblock_copy_and_writes_nothing() {
    let place = Place::formatted();
    let mut bytes = std::fs::read(&place.store).unwrap();
    bytes[(1 << 20) + 100] ^= 1;
    std::fs::write(&place.store, &bytes).unwrap();
    let info = place.rb(&["info", "--json"], &[]).json();
    assert_eq!(info["superblock"]["copy_a"], "ok");
    let copy = info["superblock"]["copy_b"].as_str().unwrap();
    assert!(copy.starts_with("damaged"), "{copy}");
    assert!(
        std::fs::read(&place.store).unwrap() == bytes,
        "info wrote to the store"
    );

    // No crash leaves a damaged copy: an opening for writing does not repair it. It repairs a zero copy.
    place.rb(&["rm"], &["k"]).text();
    assert_eq!(
        place.rb(&["info", "--json"], &[]).json()["superblock"]["copy_b"],
        copy
    );
    place.overwrite(1 << 20, &[0; 4096]);
    assert_eq!(place.rb(&["rm"], &["k"]).text(), "removed 0 of 1\n");
    let info = place.rb(&["info", "--json"], &[]).json();
    assert_eq!(info["superblock"]["copy_b"], "ok");
}

#[test]
fn info_says_how_the_store_was_left() {
    let place = Place::formatted();
    let shutdown = || place.rb(&["info", "--json"], &[]).json()["recovery"]["shutdown"].clone();
    assert_eq!(shutdown(), "new");
    let text = place.rb(&["info"], &[]).text();
    assert!(text.contains("\n  shutdown    new\n"), "{text}");

    // Dropped and not closed, as a killed process leaves it.
    let store = Store::open(&place.store, StoreOptions::default()).unwrap();
    store.put(b"k", b"value").unwrap();
    store.sync().unwrap();
    assert_eq!(shutdown(), "not clean");
    drop(store);
    assert_eq!(shutdown(), "not clean");

    place.rb(&["rm"], &["other"]).text();
    assert_eq!(shutdown(), "clean");
}

#[test]
fn a_store_that_was_opened_and_closed_is_not_new() {
    let place = Place::formatted();
    place.rb(&["rm"], &["absent"]).text();
    let info = place.rb(&["info", "--json"], &[]).json();
    assert_eq!(info["recovery"]["shutdown"], "clean");
}

#[test]
fn an_explicit_engine_is_used() {
    let place = Place::formatted();
    let info = place
        .rb(&["info", "--json", "--engine", "posix"], &[])
        .json();
    assert_eq!(info["engine"], "posix");
}

#[test]
fn a_reader_that_goes_away_is_not_an_error() {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), &[7; 60_000]).text();
    let mut child = Command::new(env!("CARGO_BIN_EXE_rb"))
        .args(place.args(&["get"], &["k"]))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

#[test]
fn version_and_help_are_there() {
    let short = rb(["-V"]).text();
    let line = rb(["--version", "--json"]).json();
    let commit = line["commit"].as_str().unwrap();
    // A copy of the sources without a repository has no commit.
    let is_hash = commit.len() == 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || commit == "unknown", "{commit}");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(short, format!("rb {version} (format 1, commit {commit})\n"));
    assert_eq!(line["format_version"], 1, "{line}");
    assert_eq!(line["built_with"][0], "io_uring", "{line}");
    let long = rb(["--version"]).text();
    for part in [
        "format    1\n",
        "features  io_uring, zstd",
        "knows     compatible bits 0x0",
        commit,
    ] {
        assert!(long.contains(part), "{part:?} in {long}");
    }
    let help = rb(["--help"]).text();
    for command in [
        "demo",
        "format",
        "info",
        "put",
        "get",
        "rm",
        "ls",
        "replay",
        "recover-bench",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command}: {help}"
        );
    }
    assert!(!help.contains("child"), "{help}");
    assert!(
        rb(["get", "--help"])
            .text()
            .contains("2 the key is not in the store")
    );
}

/// Without `--slot-bytes` one class of 1 MiB serves values of any size: a larger value takes several
/// slots, and `rb info` warns when most of the slots in use is not payload.
#[test]
fn one_class_serves_values_of_any_size() {
    let place = Place::new();
    place
        .rb(&["format"], &["--slots", "100", "--sparse"])
        .text();
    let large = vec![0xA7; 70 << 20];
    rb_with_input(place.args(&["put"], &["large", "-"]), &large).text();
    assert!(place.rb(&["get"], &["large"]).stdout == large);
    let listed = place.rb(&["ls", "--json"], &[]).json();
    assert_eq!(listed["listing"][0]["value_slots"], 70);
    let info = place.rb(&["info", "--json"], &[]).json();
    assert_eq!(info["classes"][0]["payload_bytes"], 70 << 20);
    assert_eq!(info["warnings"].as_array().unwrap().len(), 0);
    for n in 0..28 {
        let key = format!("small-{n}");
        rb_with_input(place.args(&["put"], &[&key, "-"]), b"x").text();
    }
    place.rb(&["rm"], &["large"]).text();
    let info = place.rb(&["info", "--json"], &[]).json();
    let warning = info["warnings"][0].as_str().unwrap();
    assert!(warning.contains("28 slots of 1 MiB"), "{warning}");
}
