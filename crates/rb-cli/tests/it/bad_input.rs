//! Bad input is one clear line and changes nothing (C8, C9).

use std::path::Path;
use std::process::Command;

use rb_core::{Store, StoreOptions};

use crate::program::{Place, arg, rb, rb_with_input};

#[track_caller]
fn says(error: &str, words: &[&str]) {
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
    let cases: [(&[&str], &[u8], &[&str]); 8] = [
        (&["", "-"], b"x", &["key of 0 bytes", "1 to 512"]),
        (&[&long, "-"], b"x", &["key of 1025 bytes", "1 to 512"]),
        (
            &[&long[..513], "-"],
            b"x",
            &["key of 513 bytes", "1 to 512"],
        ),
        (&["k", "-"], b"", &["value of 0 bytes", "1 to 65536"]),
        (
            &["k", "-"],
            &[1; 65_537],
            &["value of 65537 bytes", "1 to 65536"],
        ),
        (
            &["k", "-", "--metadata", &long[..65]],
            b"x",
            &["metadata of 65 bytes", "64"],
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
    let large = place.file("large", &[1; 70_000]);
    says(
        &place.rb(&["put"], &["k", arg(&large)]).error(),
        &["70000 bytes", "1 to 65536"],
    );
    says(&place.rb(&["get"], &[""]).error(), &["key of 0 bytes"]);
    says(
        &place.rb(&["rm"], &["there", ""]).error(),
        &["key of 0 bytes"],
    );
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
fn impossible_layouts_make_no_file() {
    let long = vec!["4KiB:1%"; 65].join(",");
    let cases: [(&[&str], &[&str]); 13] = [
        (
            &["--slot-bytes", "4097", "--size", "16MiB"],
            &["slots of 4097 bytes", "multiple of 4096"],
        ),
        (
            &["--slot-bytes", "0", "--size", "16MiB"],
            &["slots of 0 bytes", "4096 to"],
        ),
        (
            &["--slot-bytes", "2TiB", "--size", "16MiB"],
            &["slots of 2199023255552 bytes"],
        ),
        (
            &["--slot-bytes", "64KiB", "--size", "1MiB"],
            &["layout needs", "the device has 1048576"],
        ),
        (
            &["--slot-bytes", "64KiB", "--size", "4MiB"],
            &["layout needs", "the device has 4194304"],
        ),
        (
            &["--slot-bytes", "4KiB:60%,8KiB:60%", "--size", "64MiB"],
            &["120 percent"],
        ),
        (
            &["--slot-bytes", "4KiB:50%,4KiB:50%", "--size", "64MiB"],
            &["two slot classes of 4096"],
        ),
        (&["--slot-bytes", &long, "--size", "64MiB"], &["65", "64"]),
        (
            &[
                "--slot-bytes",
                "64KiB",
                "--size",
                "64MiB",
                "--key-bytes",
                "1025",
            ],
            &["key length", "1025", "1 to 1024"],
        ),
        (
            &[
                "--slot-bytes",
                "64KiB",
                "--size",
                "64MiB",
                "--key-bytes",
                "0",
            ],
            &["key length", "of 0", "1 to 1024"],
        ),
        (
            &[
                "--slot-bytes",
                "64KiB",
                "--size",
                "64MiB",
                "--metadata-bytes",
                "257",
            ],
            &["metadata", "257", "0 to 256"],
        ),
        (
            &[
                "--slot-bytes",
                "64KiB",
                "--size",
                "64MiB",
                "--log-size",
                "4096",
            ],
            &["4096", "log"],
        ),
        (&["--slot-bytes", "64KiB"], &["--size"]),
    ];
    for (args, words) in cases {
        let place = Place::new();
        says(&place.rb(&["format"], args).error(), words);
        assert!(!place.store.exists(), "{args:?} made a file");
    }
}

#[test]
fn command_lines_that_cannot_be_are_refused_in_words() {
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
fn a_truncated_store_says_so() {
    let place = Place::formatted();
    let len = std::fs::metadata(&place.store).unwrap().len();
    let file = std::fs::File::options()
        .write(true)
        .open(&place.store)
        .unwrap();
    file.set_len(len - 65536).unwrap();
    says(
        &place.rb(&["info"], &[]).error(),
        &["truncated", &len.to_string()],
    );
}

#[test]
fn formatting_over_something_needs_consent() {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
    let before = std::fs::read(&place.store).unwrap();
    let args = ["--slot-bytes", "4KiB", "--size", "8MiB"];
    for extra in [&[][..], &["--force"]] {
        let args = [&args[..], extra].concat();
        says(
            &place.rb(&["format"], &args).error(),
            &["holds a store", "--yes"],
        );
        assert!(
            std::fs::read(&place.store).unwrap() == before,
            "the refusal wrote to the store"
        );
    }
    place.rb(&["format", "--yes"], &args).text();
    assert_eq!(place.listing()["count"], 0);
    let len = std::fs::metadata(&place.store).unwrap().len();
    assert!(len >= before.len() as u64, "files are never shrunk");
}

#[test]
fn a_file_system_needs_force_as_well() {
    let place = Place::new();
    make_ext4(&place.store);
    let before = std::fs::read(&place.store).unwrap();
    let args = ["--slot-bytes", "4KiB"];
    for extra in [&[][..], &["--yes"], &["--force"]] {
        let args = [&args[..], extra].concat();
        says(&place.rb(&["format"], &args).error(), &["ext", "--force"]);
        assert!(
            std::fs::read(&place.store).unwrap() == before,
            "the refusal wrote to the file"
        );
    }
    place.rb(&["format", "--yes", "--force"], &args).text();
    assert_eq!(place.rb(&["info", "--json"], &[]).json()["live"], 0);
}

/// An ext4 file system, or what looks like one to those who look for its signature: the magic number
/// 0xEF53, little-endian, at byte 1080.
fn make_ext4(path: &Path) {
    std::fs::write(path, vec![0; 16 << 20]).unwrap();
    let made = ["mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"]
        .iter()
        .any(|program| {
            let status = Command::new(program).args(["-q", "-F"]).arg(path).status();
            status.is_ok_and(|status| status.success())
        });
    if !made {
        let mut bytes = vec![0; 16 << 20];
        bytes[1080..1082].copy_from_slice(&[0x53, 0xEF]);
        std::fs::write(path, bytes).unwrap();
    }
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
    assert_eq!(place.listing()["count"], 1);
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
