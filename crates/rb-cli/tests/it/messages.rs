//! Messages that were false or named the wrong thing, each with its story.

use serde_json::Value;

use crate::bad_input::says;
use crate::program::{Place, Ran, arg, rb, rb_with_input};

fn bench(place: &Place, more: &[&str]) -> Ran {
    let args = ["--op", "get", "--seconds", "0.1", "--json"];
    place.rb(&["bench", "--store"], &[&args[..], more].concat())
}

/// A bench that finds values of an earlier run of another length filled the rest of the slots with its own. That
/// evicted values of its own, which it then reported as wrong bytes.
#[test]
fn values_of_an_earlier_bench_are_not_wrong_bytes() {
    let place = Place::new();
    bench(&place, &["--size", "24MiB", "--depth", "96"]).json();
    bench(&place, &["--value-bytes", "60000", "--depth", "96"]).json();
    let line = bench(&place, &["--depth", "4"]).json();
    assert_eq!(line["wrong_bytes"], 0, "{line}");
    assert!(
        line["verified_bytes"].as_u64().unwrap() > 10 << 20,
        "{line}"
    );
    let keys = place.listing();
    let keys = keys["listing"].as_array().unwrap();
    let of_run = |entry: &Value| {
        entry["key"]
            .as_str()
            .unwrap()
            .starts_with("rb-bench/65536/")
    };
    assert!(keys.iter().all(of_run), "{keys:?}");
}

/// A bench of 0 seconds made no call, and showed latencies of 0 us and "1 commits".
#[test]
fn a_bench_makes_at_least_one_call() {
    let place = Place::new();
    let args = ["--op", "put", "--size", "24MiB", "--seconds"];
    let run = |seconds: &str| place.rb(&["bench", "--store"], &[&args[..], &[seconds]].concat());
    says(&run("0").error(), &["--seconds is 0", "more than 0"]);
    let text = run("1e-9").text();
    assert!(
        text.contains(", 0 errors;") && !text.contains(" 1 commits"),
        "{text}"
    );
    assert!(!text.contains("p50 0 us"), "{text}");
    // A call of 64 values was "8 in flight".
    let args = [
        "--op",
        "put",
        "--seconds",
        "0.01",
        "--json",
        "--batch",
        "64",
        "--depth",
        "8",
    ];
    let line = place.rb(&["bench", "--store"], &args).json();
    assert_eq!((&line["batch"], &line["depth"]), (&64.into(), &64.into()));
}

/// `rb probe` ignored `--engine`.
#[test]
fn a_probe_of_one_engine_shows_that_engine() {
    let place = Place::formatted();
    let line = place
        .rb(&["probe", "--json", "--engine", "posix"], &[])
        .json();
    let engines = line["engines"].as_array().unwrap();
    assert_eq!(engines.len(), 1, "{line}");
    assert_eq!(
        (&engines[0]["engine"], &line["usable"]),
        (&"posix".into(), &true.into())
    );
    let ran = place.rb(&["probe", "--json", "--engine", "uring_cmd"], &[]);
    assert_eq!(ran.code, Some(8), "{ran:?}");
    assert_eq!(ran.json_line()["usable"], false, "{ran:?}");
}

/// The limit of keys was named as 1024 bytes, which is that of the format, although this store takes fewer.
#[test]
fn the_limit_of_a_key_is_that_of_the_store() {
    let place = Place::formatted();
    let long = "k".repeat(1100);
    let limit = [
        "key of 1100 bytes",
        "keys of this store have 1 to 512 bytes",
    ];
    says(
        &rb_with_input(place.args(&["put"], &[&long, "-"]), b"x").error(),
        &limit,
    );
    says(&place.rb(&["get"], &[&long]).error(), &limit);
    says(&place.rb(&["rm"], &[&long]).error(), &limit);
}

/// Input without end was "a value of 4194305 bytes", which is how far it was read.
#[test]
fn endless_input_has_more_bytes_than_a_value() {
    let place = Place::formatted();
    let words = [
        "/dev/zero has more than 4194304 bytes",
        "64 slots of 65536 bytes",
    ];
    says(&place.rb(&["put"], &["k", "/dev/zero"]).error(), &words);
}

/// Bad labels and prefixes were "not a key".
#[test]
fn options_with_bytes_are_named() {
    let place = Place::formatted();
    says(
        &place.rb(&["ls"], &["--prefix", "hex:zz"]).error(),
        &["--prefix \"hex:zz\""],
    );
    let args = ["--slots", "4", "--label", "hex:0"];
    says(
        &Place::new().rb(&["format"], &args).error(),
        &["--label \"hex:0\""],
    );
}

/// Errors of a format named no option, and blamed the slots for the size of the log. Shares of less than 100 % left
/// space unused without a warning.
#[test]
fn errors_of_a_format_name_the_option() {
    let place = Place::new();
    for (args, words) in [
        (&[][..], &["--size", "--slots"][..]),
        (
            &["--slots", "4", "--log-size", "1"],
            &["--log-size is 1 byte:", "262144"],
        ),
        (
            &["--size", "20MiB", "--log-size", "9MiB"],
            &[
                "--size is 20971520 bytes",
                "works for a --log-size of 9437184 is",
            ],
        ),
        (
            &["--size", "1MiB", "--log-size", "9MiB"],
            &["these slots and a --log-size of 9437184 is"],
        ),
        (&["--size", "1MiB"], &["works for these slots is"]),
        (
            &["--slots", "4", "--metadata-bytes", "257"],
            &["--metadata-bytes is 257", "0 to 256"],
        ),
    ] {
        says(&place.rb(&["format"], args).error(), words);
    }
    let args = ["--size", "24MiB", "--slot-bytes", "4KiB:30%,64KiB:20%"];
    let ran = place.rb(&["format"], &args);
    ran.text();
    says(
        ran.stderr.trim_end(),
        &["50 % together", "the other 50 % of the space stays unused"],
    );
    let args = ["--yes", "--size", "24MiB", "--slot-bytes", "4KiB:30%,64KiB"];
    let ran = place.rb(&["format"], &args);
    assert_eq!((ran.code, &*ran.stderr), (Some(0), ""), "{ran:?}");
}

/// With `--keep`, `value_bytes` was the length of a value that was not stored.
#[test]
fn the_length_of_a_kept_value_is_its_own() {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), b"12").text();
    let put = |key| {
        rb_with_input(
            place.args(&["put", "--json", "--keep"], &[key, "-"]),
            b"12345",
        )
        .json()
    };
    let line = put("k");
    assert_eq!(
        (&line["stored"], &line["value_bytes"]),
        (&false.into(), &2.into())
    );
    let line = put("new");
    assert_eq!(
        (&line["stored"], &line["value_bytes"]),
        (&true.into(), &5.into())
    );
}

/// A missing key was a warning, although the exit code reports it. Options of other structures, slots that do not
/// exist and slots that were never written were described with a text that fits another case.
#[test]
fn an_inspection_says_what_is_there() {
    let place = Place::formatted();
    let ran = place.rb(&["inspect", "--json"], &["slot", "--key", "none"]);
    assert_eq!((ran.code, &*ran.stderr), (Some(2), ""), "{ran:?}");
    let line = ran.json_line();
    assert_eq!(
        (&line["warnings"], &line["structures"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    for (args, words) in [
        (
            &["base", "--slot", "3"][..],
            "--slot is not an option of base, which takes --copy",
        ),
        (
            &["log", "--copy", "a"],
            "--copy is not an option of log, which takes --block",
        ),
        (
            &["slot", "--copy", "a"],
            "of slot, which takes --slot or --key",
        ),
        (&["--slot", "3"], "of all structures, which takes none"),
        (
            &["slot", "--slot", "64"],
            "this store has 64 slots, numbered from 0",
        ),
    ] {
        says(&place.rb(&["inspect"], args).error(), &[words]);
    }
    let text = place.rb(&["inspect"], &["slot", "--slot", "63"]).text();
    assert!(text.contains("refused: the magic is zero"), "{text}");
    assert!(text.contains("not live: its header is zero"), "{text}");
    assert!(!text.contains("old"), "{text}");
    // A slot that was used and is free again does hold something old.
    rb_with_input(place.args(&["put"], &["k", "-"]), b"v").text();
    let slot = place.listing()["listing"][0]["slot"].to_string();
    place.rb(&["rm"], &["k"]).text();
    let text = place.rb(&["inspect"], &["slot", "--slot", &slot]).text();
    assert!(text.contains("not live: its content is old"), "{text}");
}

/// The error of `rb get -o` named a temporary file that the user had never seen.
#[test]
fn an_output_is_named_as_the_user_did() {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
    let output = place.path("none").join("file");
    let error = place.rb(&["get"], &["k", "-o", arg(&output)]).error();
    says(&error, &[arg(&output), "No such file"]);
    assert!(!error.contains("/.rb-"), "{error}");
}

/// A bench with too much in flight made the store, refused it for having too few slots, and the next run found an
/// empty store that it would not fill. A folder that does not exist was named by that of a temporary one in it.
#[test]
fn what_is_refused_leaves_nothing() {
    let place = Place::new();
    let args = ["--op", "get", "--size", "24MiB", "--depth", "4096"];
    let error = place.rb(&["bench", "--store"], &args).error();
    says(&error, &["4096 in flight", "are needed"]);
    assert!(!place.store.exists());
    let error = rb(["demo", "--dir", arg(&place.path("none"))]).error();
    says(&error, &["/none failed", "No such file"]);
    assert!(!error.contains("rb-demo-"), "{error}");
    let text = place.file("text", b"hello");
    let error = rb(["format", arg(&text), "--yes"]).error();
    says(
        &error,
        &["text has 5 bytes", "a larger --size makes the file grow"],
    );
}

/// Every noun follows its number.
#[test]
fn one_byte_is_not_one_bytes() {
    let place = Place::new();
    let args = [
        "--slots",
        "1",
        "--slot-bytes",
        "4KiB",
        "--key-bytes",
        "1",
        "--metadata-bytes",
        "1",
    ];
    let mut shown = place.rb(&["format"], &args).text();
    shown += &rb_with_input(place.args(&["put"], &["k", "-"]), b"v").text();
    for command in ["info", "fsck", "inspect"] {
        shown += &place.rb(&[command], &[]).text();
    }
    shown += &place.rb(&["inspect"], &["slot", "--key", "k"]).text();
    let long = rb([arg(&place.store)]
        .iter()
        .fold(vec!["get"], |mut all, path| {
            all.extend([*path, "kk"]);
            all
        }));
    shown += &long.error();
    for noun in [
        "bytes",
        "entries",
        "records",
        "log blocks",
        "headers",
        "slots",
    ] {
        let wrong = format!(" 1 {noun}");
        assert!(!shown.contains(&wrong), "{wrong:?} in: {shown}");
    }
}
