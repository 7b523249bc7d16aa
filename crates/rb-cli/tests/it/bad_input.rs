//! Bad input is one clear line and changes nothing (C8, C9).

use std::ffi::OsStr;
use std::path::Path;

use rb_core::{Store, StoreOptions};

use crate::program::{Place, arg, rb, rb_with_input};

/// Expects all of these words in an error of one line.
#[track_caller]
pub(crate) fn says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is missing in: {error}");
    }
    assert!(
        !error.contains('\n') && !error.contains("panicked"),
        "{error}"
    );
}

#[test]
fn bad_keys_and_values_are_refused_and_the_store_stays_as_it_was() {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["there", "-"]), b"value").text();
    let before = place.listing();
    let long = "k".repeat(1025);
    let cases: [(&[&str], &[u8], &[&str]); 9] = [
        (&["", "-"], b"x", &["key of 0 bytes", "at least 1 byte"]),
        (&[&long, "-"], b"x", &["key of 1025 bytes", "1 to 512"]),
        (
            &[&long[..513], "-"],
            b"x",
            &["key of 513 bytes", "1 to 512"],
        ),
        (&["k", "-"], b"", &["value of 0 bytes", "at least 1 byte"]),
        (
            &["k", "-"],
            &[1; 64 * 65_536 + 1],
            &["more than 4194304 bytes", "64 slots of 65536 bytes"],
        ),
        (
            &["k", "-", "--metadata", &long[..65]],
            b"x",
            &["metadata of 65 bytes", "64"],
        ),
        (
            &["k", "-", "--placement-data", "1"],
            b"x",
            &["placement id 1 for lifetime class 0", "takes none"],
        ),
        (&["hex:abc", "-"], b"x", &["hex:abc", "even number"]),
        (
            &["k", "/nonexistent/file"],
            b"",
            &["reading /nonexistent/file", "No such file"],
        ),
    ];
    for (args, input, words) in cases {
        says(
            &rb_with_input(place.args(&["put"], args), input).error(),
            words,
        );
        says(
            &rb_with_input(place.args(&["put", "--json"], args), input).json_error(),
            words,
        );
        assert_eq!(place.listing(), before, "{args:?}");
    }
    for id in ["0", "65536", "x"] {
        let ran = place.rb(&["put"], &["k", "-", "--placement-data", id]);
        let said = ran.stderr.lines().next().unwrap();
        says(said, &[id, "a placement id is a number from 1 to 65535"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
    }
    let large = place.file("large", &[1; 4_200_000]);
    says(
        &place.rb(&["put"], &["k", arg(&large)]).error(),
        &["4200000 bytes", "1 to 4194304"],
    );
    says(&place.rb(&["get"], &[""]).error(), &["key of 0 bytes"]);
    says(
        &place.rb(&["rm"], &["there", ""]).error(),
        &["key of 0 bytes"],
    );
    assert_eq!(
        place.listing(),
        before,
        "one bad key, and rm removed another"
    );
}

#[test]
fn what_no_store_takes_is_refused_before_the_store_is_opened() {
    // The store does not exist, so an opening would fail first.
    let place = Place::new();
    let empty = place.file("empty", b"");
    for (args, words) in [
        (["", "-"], "key of 0 bytes"),
        (["hex:", "-"], "key of 0 bytes"),
        (["k", "-"], "value of 0 bytes"),
        (["k", arg(&empty)], "value of 0 bytes"),
    ] {
        says(
            &rb_with_input(place.args(&["put"], &args), b"").error(),
            &[words],
        );
    }
    says(&place.rb(&["rm"], &[""]).error(), &["key of 0 bytes"]);
    assert!(!place.store.exists());
}

#[test]
fn a_refused_put_does_not_open_the_store_for_writing() {
    let place = Place::formatted();
    let before = std::fs::read(&place.store).unwrap();
    for (args, input) in [
        (&["k", "-"][..], &[1; 64 * 65_536 + 1][..]),
        (&[&"k".repeat(513), "-"], b"x"),
        (&["k", "-", "--metadata", &"m".repeat(65)], b"x"),
    ] {
        rb_with_input(place.args(&["put"], args), input).error();
        assert!(
            std::fs::read(&place.store).unwrap() == before,
            "{args:?} wrote to the store"
        );
    }
}

#[test]
fn a_json_get_needs_a_file_for_the_value() {
    let place = Place::formatted();
    says(
        &place.rb(&["get", "--json"], &["k"]).json_error(),
        &["-o FILE"],
    );
}

#[test]
fn invalid_command_lines_are_refused_with_a_message() {
    let place = Place::formatted();
    for (args, words) in [
        (vec!["nonsense"], "nonsense"),
        (
            vec!["format", "p", "--slot-bytes", "64KB", "--size", "1GiB"],
            "unit \"KB\"",
        ),
        (vec!["format", "p", "--slot-bytes", "4KiB:0%"], "percent"),
        (
            vec!["info", arg(&place.store), "--engine", "aio"],
            "unknown engine \"aio\"",
        ),
        (vec!["get", arg(&place.store)], "<KEY>"),
        (vec!["rm", arg(&place.store)], "<KEYS>"),
    ] {
        says(&rb(args.iter().chain(&["--json"])).json_error(), &[words]);
        let ran = rb(&args);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}

#[test]
fn commands_that_are_only_for_the_program_itself_are_not_named() {
    for args in [
        &[][..],
        &["--json"],
        &["recover"],
        &["demo-chil"],
        &["recover-prob"],
    ] {
        let ran = rb(args);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let said = format!("{}{}", ran.stderr, String::from_utf8_lossy(&ran.stdout));
        for hidden in ["demo-child", "recover-probe", "recover-churn"] {
            assert!(!said.contains(hidden), "{hidden}: {said}");
        }
    }
    let ran = rb(["--engine", "posix"]);
    assert!(ran.stderr.contains("recover-bench"), "{ran:?}");
}

#[test]
fn what_is_no_store_is_not_opened() {
    let place = Place::new();
    let zeros = place.file("zeros", &[0; 4 << 20]);
    let small = place.file("small", b"hello");
    for path in [
        arg(&zeros),
        arg(&small),
        "/nonexistent/store",
        arg(place.folder.path()),
    ] {
        for command in [
            vec!["info", path],
            vec!["ls", path],
            vec!["get", path, "k"],
            vec!["rm", path, "k"],
        ] {
            says(&rb(&command).error(), &[path]);
        }
    }
    says(&rb(["info", arg(&zeros)]).error(), &["no raw-block store"]);
}

#[test]
fn a_truncated_store_is_reported() {
    let place = Place::formatted();
    let len = std::fs::metadata(&place.store).unwrap().len();
    let file = std::fs::File::options()
        .write(true)
        .open(&place.store)
        .unwrap();
    file.set_len(2 << 20).unwrap();
    says(
        &place.rb(&["info"], &[]).error(),
        &["truncated", &len.to_string()],
    );
}

#[test]
fn a_second_opener_is_refused_and_readers_are_not() {
    let place = Place::formatted();
    let store = Store::open(&place.store, StoreOptions::default()).unwrap();
    store.put(b"k", b"value").unwrap();
    store.sync().unwrap();
    says(
        &rb_with_input(place.args(&["put"], &["k", "-"]), b"other").error(),
        &["in use"],
    );
    says(&place.rb(&["rm"], &["k"]).error(), &["in use"]);
    says(
        &place
            .rb(&["format", "--yes"], &["--slot-bytes", "4KiB"])
            .error(),
        &["in use"],
    );
    assert_eq!(place.listing()["entries"], 1);
    assert_eq!(place.rb(&["get"], &["k"]).stdout, b"value");
    assert_eq!(store.get(b"k").unwrap().as_deref(), Some(&b"value"[..]));
    store.close().unwrap();
}

#[test]
fn an_engine_that_cannot_run_here_is_an_error() {
    let place = Place::formatted();
    says(
        &place.rb(&["info", "--engine", "uring_cmd"], &[]).error(),
        &["uring_cmd"],
    );
}

/// A write beyond `ulimit -f` ended the process with SIGXFSZ, in the middle of a put.
#[test]
fn a_store_beyond_the_file_size_limit_is_refused_with_a_message() {
    let place = Place::formatted();
    let store = place.path("store");
    let before = std::fs::read(&store).unwrap();
    let limited = |command: &str, path: &Path, after: &str| {
        let script = format!("ulimit -f 100; exec \"$0\" {command} \"$1\" {after}");
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", &script, env!("CARGO_BIN_EXE_rb"), arg(path)]);
        let refused = shell.output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        String::from_utf8(refused.stderr).unwrap()
    };
    let words = ["ulimit -f", "only the first"];
    says(limited("rm", &store, "gone").trim(), &words);
    let new = place.path("new");
    says(
        limited("format", &new, "--slot-bytes 64K --size 16M").trim(),
        &words,
    );
    assert!(!new.exists());
    assert_eq!(std::fs::read(&store).unwrap(), before);
}

/// Paths and keys were shown as they are: with an escape character they moved the cursor, with U+202E they showed another name.
#[test]
fn what_is_shown_has_no_characters_that_act() {
    let place = Place::formatted();
    let odd = "a\u{202e}b\u{200b}c\u{2028}d\u{1b}[31m\u{feff}";
    let none = place.folder.path().join(format!("none{odd}"));
    let slots = format!("4{odd}");
    let runs = [
        rb([OsStr::new("info"), none.as_os_str()]),
        rb([OsStr::new("--json"), OsStr::new("info"), none.as_os_str()]),
        rb([
            OsStr::new("put"),
            place.store.as_os_str(),
            OsStr::new(odd),
            none.as_os_str(),
        ]),
        rb([OsStr::new(odd)]),
        rb([OsStr::new("--json"), OsStr::new(odd)]),
        place.rb(&["format", "--yes", "--slot-bytes", &slots], &[]),
        place.rb(&["inspect"], &["slot", "--key", odd]),
        place.rb(&["get", "--json", "-o"], &[odd, odd]),
        rb_with_input(place.args(&["put"], &[odd, "-"]), b"value"),
        place.rb(&["ls"], &[]),
        place.rb(&["ls", "--json"], &[]),
    ];
    for (number, ran) in runs.iter().enumerate() {
        let shown = String::from_utf8_lossy(&ran.stdout).into_owned() + &ran.stderr;
        let acts = |char: char| char.is_control() && char != '\n' && char != '\t';
        let hides = ['\u{202e}', '\u{200b}', '\u{2028}', '\u{feff}'];
        assert!(
            !shown.contains(acts) && !shown.contains(hides),
            "{number}: {shown:?}"
        );
        assert!(!shown.is_empty(), "{number}");
    }
    let absent = place.rb(&["inspect"], &["slot", "--key", "absent"]);
    assert_eq!(absent.code, Some(2), "{absent:?}");
    let shown = String::from_utf8_lossy(&absent.stdout).into_owned();
    assert!(shown.contains("has no key absent"), "{absent:?}");
    assert_eq!(absent.stderr, "");
}
