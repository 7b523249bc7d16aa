//! `--log`: lines on standard error that disturb nothing else.

use std::path::PathBuf;

use crate::program::{Place, Ran, arg, rb};

/// Puts and gets a value with this filter. Returns what the get wrote.
fn put_and_get(filter: &[&str]) -> Ran {
    let place = Place::formatted();
    let value = place.file("value", b"s3cr3t value");
    place.rb(&["put"], &["s3cr3t-key", arg(&value)]).text();
    let args = [filter, &["get"]].concat();
    place.rb(&args, &["s3cr3t-key"])
}

#[test]
fn a_level_shows_events_and_spans_on_standard_error_only() {
    let quiet = put_and_get(&[]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
    for (filter, shown, hidden) in [
        (["--log", "info"], vec!["INFO", "opened", "closed"], "get{"),
        (
            ["--log", "debug"],
            vec!["opened", "get{keys=1 hits=1", "time.idle="],
            "TRACE",
        ),
        (
            ["--log", "rb_core=debug"],
            vec!["get{keys=1 hits=1"],
            "TRACE",
        ),
        (["--log", "error"], vec![], "INFO"),
    ] {
        let ran = put_and_get(&filter);
        assert_eq!(ran.stdout, b"s3cr3t value", "{filter:?}: {ran:?}");
        for words in shown {
            assert!(ran.stderr.contains(words), "{filter:?}: {words}: {ran:?}");
        }
        assert!(!ran.stderr.contains(hidden), "{filter:?}: {ran:?}");
        assert!(!ran.stderr.contains("s3cr3t"), "{filter:?}: {ran:?}");
    }
}

#[test]
fn the_line_of_json_is_alone_on_standard_output() {
    let place = Place::formatted();
    let ran = place.rb(&["info", "--json", "--log", "info"], &[]);
    assert_eq!(ran.json()["slots"], 64, "{ran:?}");
    assert!(ran.stderr.contains("opened"), "{ran:?}");
}

#[test]
fn a_wrong_filter_is_an_error_that_names_the_part() {
    for (filter, part) in [
        ("inof", "'inof'"),
        ("info,rb_core=loud", "part 'rb_core=loud'"),
        ("rb_io=debug,info", "nothing reports as 'rb_io'"),
        ("a\u{202e}=debug", "a\\u{202e}"),
    ] {
        let error = rb(["--log", filter, "info", "/nowhere"]).error();
        assert!(
            error.contains(part) && error.contains("--log"),
            "{filter}: {error}"
        );
        let error = rb(["--json", "--log", filter, "info", "/nowhere"]).json_error();
        assert!(error.contains("--log"), "{filter}: {error}");
    }
}

/// A path can have characters that move the cursor, or end a line and begin one that looks like another event.
#[test]
fn a_path_cannot_forge_a_line() {
    let place = Place::formatted();
    let odd: PathBuf = place
        .folder
        .path()
        .join("a\u{1b}[2J\nERROR writing stopped");
    std::fs::rename(&place.store, &odd).unwrap();
    let ran = rb(["--log", "info", "ls", arg(&odd)]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("a\\u{1b}[2J\\nERROR"), "{ran:?}");
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
    let lines = ran.stderr.lines();
    assert!(lines.clone().count() > 1, "{ran:?}");
    for line in lines {
        assert!(
            line.starts_with(|char: char| char.is_ascii_digit()),
            "{line}"
        );
    }
}
