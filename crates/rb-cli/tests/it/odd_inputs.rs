//! Odd inputs of every command: each is one line that names what is wrong, without a panic.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::bad_input::says;
use crate::program::{Place, Ran, arg, rb_with_input};

/// Runs `rb`. An input that makes it wait without end is a failure.
fn run(args: &[OsString], input: &[u8]) -> Ran {
    let mut limited = Command::new("timeout");
    limited.args(["60", env!("CARGO_BIN_EXE_rb")]).args(args);
    Ran::of(&mut limited, input)
}

/// Cases with their counts, so that a case that is never run shows.
struct Odd {
    place: Place,
    count: usize,
    wrong: Vec<String>,
}

impl Odd {
    fn new() -> Odd {
        let place = Place::formatted();
        rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
        let odd = Odd {
            place,
            count: 0,
            wrong: Vec::new(),
        };
        odd.fill();
        odd
    }

    /// Makes the files that cases use.
    fn fill(&self) {
        let fifo = Command::new("mkfifo").arg(self.place.path("fifo")).status();
        assert!(fifo.unwrap().success());
        std::fs::create_dir(self.place.path("folder")).unwrap();
        for (name, bytes) in [
            ("empty", &b""[..]),
            ("text", b"hello"),
            ("good", b"{\"hash_ids\": [1, 2]}\n"),
            ("broken", b"{\"hash_ids\": [1, 2]}\n{\"hash_ids\": [1,\n"),
            ("without", b"{\"ids\": [1]}\n"),
            ("negative", b"{\"hash_ids\": [-1]}\n"),
            ("large", b"{\"hash_ids\": [18446744073709551616]}\n"),
            ("binary", &[0xff, 0xfe, 0, 1, b'\n']),
        ] {
            self.place.file(name, bytes);
        }
    }

    /// Replaces `S` by the store, `@name` by a file of the folder, and `\xff` by a byte that is not UTF-8.
    fn args(&self, command: &str) -> Vec<OsString> {
        let word = |word: &str| -> OsString {
            match (word, word.strip_prefix('@')) {
                ("S", _) => self.place.store.clone().into(),
                ("''", _) => OsString::new(),
                (_, Some(name)) => self.place.path(name).into(),
                _ if word.contains("\\xff") => {
                    let bytes = word.replace("\\xff", "\u{1}").into_bytes();
                    let bytes: Vec<u8> = bytes
                        .into_iter()
                        .map(|byte| if byte == 1 { 0xff } else { byte })
                        .collect();
                    OsStr::from_bytes(&bytes).to_owned()
                }
                _ => word.into(),
            }
        };
        command.split(' ').map(word).collect()
    }

    /// Expects exit code 1 and one line with these words, as text and as JSON, and an unchanged store.
    fn fails(&mut self, command: &str, words: &[&str]) {
        self.count += 1;
        let args = self.args(command);
        let before = std::fs::read(&self.place.store).unwrap();
        let text = run(&args, b"");
        let json = run(&[vec!["--json".into()], args].concat(), b"");
        let shown: String = command.chars().take(100).collect();
        let is_one_line = text.code == Some(1)
            && text.stdout.is_empty()
            && text.stderr.lines().count() == 1
            && text.stderr.starts_with("rb: ");
        let line: Option<Value> = serde_json::from_slice(&json.stdout).ok();
        let error = line.as_ref().and_then(|line| line["error"].as_str());
        let error = error.unwrap_or_default();
        let is_one_json_line = json.code == Some(1)
            && json.stderr.is_empty()
            && json.stdout.iter().filter(|byte| **byte == b'\n').count() == 1;
        // `rb get --json` asks for a file first.
        let has = |text: &str| words.iter().all(|word| text.contains(word));
        let has_words = has(&text.stderr) && (has(error) || error.contains("-o FILE"));
        let is_unchanged = std::fs::read(&self.place.store).unwrap() == before;
        if !(is_one_line && is_one_json_line && has_words && is_unchanged) {
            self.wrong
                .push(format!("$ rb {shown}\n{words:?}\n{text:?}{json:?}"));
        }
    }

    /// Expects that all of `count` cases were right.
    #[track_caller]
    fn finish(&self, count: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n\n"));
        assert_eq!(self.count, count);
    }
}

#[test]
fn odd_layouts_are_named() {
    let mut odd = Odd::new();
    for (slots, words) in [
        ("''", &["digits are expected"][..]),
        ("64KB", &["64KB", "unit"]),
        ("-1", &["--slot-bytes", "digits are expected"]),
        ("1.5", &["1.5", "as in 1.5GiB"]),
        ("0x10", &["0x10", "unit"]),
        ("99999999999999999999", &["99999999999999999999", "2^64"]),
        ("16777216TiB", &["16777216TiB", "2^64"]),
        ("64KiB:0%", &["64KiB:0%", "1 to 100"]),
        ("64KiB:101%", &["64KiB:101%", "1 to 100"]),
        ("64KiB:", &["64KiB:", "share"]),
        ("64KiB:5", &["share \"5\"", "percent", "64KiB:30%"]),
        (":50%", &["digits are expected"]),
        ("64KiB:30%:30%", &["30%:30%", "share"]),
        ("64KiB,,4KiB", &["digits are expected"]),
        ("64KiB:60%,4KiB:60%", &["120 percent"]),
        ("4KiB,4KiB", &["two slot classes of 4096"]),
        ("2GiB", &["2147483648", "4096 to"]),
        ("0", &["slots of 0 bytes"]),
        ("\\xff", &["UTF-8", "\\xff"]),
    ] {
        odd.fails(
            &format!("format @new --size 64MiB --slot-bytes {slots}"),
            words,
        );
    }
    for (options, words) in [
        ("--size ''", &["digits are expected"][..]),
        (
            "--size 0",
            &["--size is 0 bytes", "the smallest that works", "6361088"],
        ),
        (
            "--size 64K",
            &["--size is 65536 bytes", "the smallest that works"],
        ),
        ("--size 1.5b", &["1.5b", "more than a byte"]),
        ("--size -5", &["--size", "-5"]),
        (
            "--size 18446744073709551615",
            &["4294967295", "smaller device"],
        ),
        ("--slots 0", &["--slots is 0"]),
        ("--slots -1", &["--slots", "-1", "whole number"]),
        ("--slots 1KiB", &["--slots", "1KiB", "whole number"]),
        ("--slots x", &["x", "whole number"]),
        ("--slots 18446744073709551615", &["18446744073709551615"]),
        ("--slots 9 --size 64MiB", &["--slots", "--size"]),
        ("--size 64MiB --key-bytes 0", &["0", "1 to 1024"]),
        ("--size 64MiB --key-bytes 4294967296", &["4294967296"]),
        ("--size 64MiB --metadata-bytes 257", &["257", "0 to 256"]),
        ("--size 64MiB --log-size 1", &["log", "1"]),
        (
            "--size 64MiB --log-size 1TiB",
            &["--size is 67108864 bytes", "the smallest that works"],
        ),
        ("--size 64MiB --engine ''", &["unknown engine"]),
        ("--size 64MiB --engine aio", &["aio"]),
        ("--size 64MiB --nonsense", &["--nonsense"]),
    ] {
        odd.fails(&format!("format @new --slot-bytes 64KiB {options}"), words);
    }
    assert!(!odd.place.path("new").exists());
    for (path, words) in [
        ("''", &["<PATH>", "the path is empty"][..]),
        ("@folder", &["folder"]),
        ("@fifo", &["fifo"]),
        ("/dev/null", &["/dev/null"]),
        ("/dev/full", &["/dev/full"]),
        (
            "/nonexistent/store",
            &["/nonexistent/store", "No such file"],
        ),
        ("@text/store", &["text/store", "Not a directory"]),
    ] {
        odd.fails(
            &format!("format {path} --slot-bytes 4KiB --size 64MiB"),
            words,
        );
    }
    odd.fails("format", &["<PATH>"]);
    odd.fails(
        "format @new --slot-bytes 4KiB:50% --slots 9",
        &["--slots", "share"],
    );
    odd.finish(48);
}

#[test]
fn odd_paths_and_keys_are_named() {
    let mut odd = Odd::new();
    for command in [
        "info",
        "ls",
        "fsck",
        "inspect",
        "rm KEY",
        "get KEY",
        "put KEY @text",
    ] {
        let (command, rest) = command.split_once(' ').unwrap_or((command, ""));
        let rest = rest.replace("KEY", "k");
        for (path, words) in [
            ("''", "the path is empty"),
            ("@folder", "folder"),
            ("@fifo", "fifo"),
            ("@text", "text"),
            ("@empty", "empty"),
            ("/dev/null", "/dev/null"),
            ("/nonexistent", "/nonexistent"),
        ] {
            odd.fails(format!("{command} {path} {rest}").trim_end(), &[words]);
        }
    }
    let long = "k".repeat(100_000);
    for (command, words) in [
        ("get S ''", &["key of 0 bytes"][..]),
        ("get S hex:zz", &["hex:zz", "even number"]),
        ("get S hex:0", &["hex:0", "even number"]),
        ("get S \\xff", &["UTF-8", "\\xff"]),
        (&format!("get S {long}"), &["100000 bytes"]),
        ("get S k -o @folder", &["folder"]),
        ("get S k -o ''", &["--output", "the path is empty"]),
        ("get S k -o S", &["store", "itself"]),
        ("get S k -o /dev/full", &["/dev/full", "No space left"]),
        ("get S k -o /nonexistent/value", &["/nonexistent/value"]),
        ("get S k --yes", &["--output"]),
        ("get S", &["<KEY>"]),
        ("put S k @folder", &["folder", "directory"]),
        ("put S k /nonexistent", &["/nonexistent"]),
        ("put S k @empty", &["empty", "at least 1 byte"]),
        ("put S k /dev/null", &["/dev/null", "at least 1 byte"]),
        (
            "put S k /dev/zero",
            &["more than 4194304", "64 slots of 65536 bytes"],
        ),
        ("put S '' @text", &["key of 0 bytes"]),
        ("put S k @text --metadata \\xff", &["UTF-8"]),
        ("put S k @text --placement-data 0", &["0", "1 to 65535"]),
        (
            "put S k @text --placement-data 65536",
            &["65536", "1 to 65535"],
        ),
        ("put S k @text more", &["more"]),
        ("rm S", &["<KEYS>"]),
        ("rm S k ''", &["key of 0 bytes"]),
        (&format!("rm S k {long}"), &["100000 bytes"]),
        ("ls S --prefix hex:zz", &["hex:zz"]),
        ("ls S --prefix \\xff", &["UTF-8"]),
        ("fsck S --yes", &["--repair"]),
        ("inspect S nonsense", &["nonsense"]),
        ("inspect S slot", &["--slot", "--key"]),
        ("inspect S slot --slot 64", &["--slot is 64"]),
        ("inspect S slot --slot -1", &["--slot", "-1"]),
        ("inspect S slot --slot 4294967296", &["4294967296"]),
        ("inspect S slot --slot 1 --key k", &["--slot", "--key"]),
        ("inspect S superblock --copy c", &["c"]),
        ("inspect S log --copy a", &["--copy"]),
        ("inspect S base --block 1", &["--block"]),
        ("inspect S --key k", &["--key"]),
    ] {
        odd.fails(command, words);
    }
    odd.finish(49 + 38);
}

#[test]
fn odd_measurements_are_named() {
    let mut odd = Odd::new();
    for (options, words) in [
        ("@none", &["none", "No such file"][..]),
        ("@folder", &["folder", "directory"]),
        ("@broken", &["broken", "line 2, column 16"]),
        ("@without", &["without", "line 1", "hash_ids"]),
        ("@negative", &["negative", "line 1", "-1"]),
        ("@large", &["large", "line 1"]),
        ("@binary", &["binary", "UTF-8"]),
        ("@good --value-bytes 0", &["--value-bytes is 0"]),
        (
            "@good --value-bytes 4097",
            &["--value-bytes is 4097", "1 to 4096"],
        ),
        ("@good --shards 0", &["--shards is 0"]),
        ("@good --shards 3", &["--shards is 3"]),
        ("@good --shards 2048", &["--shards is 2048"]),
        ("@good --restart-every 0", &["0", "--restart-every"]),
        ("@good --requests -1", &["--requests", "-1"]),
        ("@good --requests 1.5", &["1.5"]),
    ] {
        let store = "--store @new --slots 9 --slot-bytes 4096";
        odd.fails(&format!("replay {options} {store}"), words);
    }
    for (options, words) in [
        ("--slots 0 --slot-bytes 4KiB", &["--slots is 0"][..]),
        ("--slots 9 --slot-bytes 0", &["--slot-bytes is 0"]),
        ("--slots 9 --slot-bytes 5000", &["5000", "4096"]),
    ] {
        odd.fails(&format!("replay @good --store @new {options}"), words);
    }
    odd.fails(
        "replay @good --store S --slots 9 --slot-bytes 4KiB",
        &["--yes"],
    );
    for (options, words) in [
        ("", &["--op"][..]),
        ("--op move", &["move"]),
        (
            "--op get --seconds x",
            &["--seconds", "x", "as in 5 or 0.5"],
        ),
        ("--op get --seconds -1", &["--seconds is -1"]),
        ("--op get --seconds=-1", &["--seconds is -1"]),
        ("--op get --seconds NaN", &["--seconds is NaN"]),
        ("--op get --seconds inf", &["--seconds is inf"]),
        ("--op get --seconds 1e300", &["--seconds is 1"]),
        ("--op get --threads 0", &["--threads is 0", "1 to 256"]),
        ("--op get --threads 257", &["--threads is 257"]),
        ("--op get --batch 0", &["--batch is 0"]),
        ("--op get --depth 0", &["--depth is 0"]),
        ("--op get --depth 4097", &["--depth is 4097"]),
        ("--op get --value-bytes 15", &["--value-bytes is 15"]),
        (
            "--op get --value-bytes 65MiB",
            &["--value-bytes is 68157440"],
        ),
        ("--op get --size 0", &["--size is 0 bytes"]),
    ] {
        odd.fails(format!("bench --store @new {options}").trim_end(), words);
    }
    odd.fails("bench --op get --store S", &["entries"]);
    for (options, words) in [
        ("--entries 0", &["--entries is 0"][..]),
        ("--entries -1", &["--entries", "-1"]),
        ("--entries 20000 --key-bytes 7", &["--key-bytes is 7"]),
        ("--entries 20000 --key-bytes 1025", &["--key-bytes is 1025"]),
        ("--entries 20000 --value-bytes 0", &["--value-bytes is 0"]),
        ("--entries 20000 --value-bytes 2TiB", &["2199023255552"]),
        ("--entries 18446744073709551615", &["18446744073709551615"]),
        ("--entries 20000 --write-every 0", &["--write-every is 0"]),
        ("--entries 20000 --rounds 0", &["0"]),
        ("--entries 20000 --depth 0", &["--depth is 0"]),
        ("--entries 20000 --depth 4097", &["--depth is 4097"]),
        ("--entries 20000 --validate never", &["never"]),
    ] {
        odd.fails(&format!("recover-bench --store @new {options}"), words);
    }
    assert!(!odd.place.path("new").exists());
    odd.fails("demo --dir /nonexistent", &["/nonexistent"]);
    odd.fails("demo --dir @text", &["text"]);
    odd.fails("probe ''", &["the path is empty"]);
    odd.fails("probe /nonexistent", &["/nonexistent"]);
    odd.fails("--engine posix", &["subcommand"]);
    odd.fails("nonsense", &["nonsense"]);
    odd.fails("\\xff", &["subcommand"]);
    odd.fails("--nonsense info S", &["--nonsense"]);
    odd.finish(56);
}

/// Inputs that a second look found: what each said is in the comment above it, where it was wrong.
#[test]
fn odd_names_and_labels_are_named() {
    let mut odd = Odd::new();
    let format = |path: &str, rest: &str| format!("format {path} --slot-bytes 64KiB {rest}");
    std::os::unix::fs::symlink("round", odd.place.path("round")).unwrap();
    for (command, words) in [
        // "lock failed: Stale file handle".
        (
            format("/dev/fd/99", "--size 16MiB"),
            &["create failed", "No such file"][..],
        ),
        (
            format("/proc/new", "--size 16MiB"),
            &["create failed", "No such file"],
        ),
        (format("@round", "--size 16MiB"), &["symbolic links"]),
        (format("@store/", "--size 16MiB"), &["store/"]),
        // "grow failed: File too large", without the size.
        (
            format("@new", "--slots 4294967295"),
            &["bytes are needed: File too large"],
        ),
        (
            format("@new", "--slots 4294967296"),
            &["4294967296 slots", "4294967295"],
        ),
        (format("@new", "--slots ９"), &["--slots", "whole number"]),
        // "a label of 1 bytes", without the reason.
        (
            format("@new", "--slots 9 --label hex:00"),
            &["--label ends with a zero byte"],
        ),
        (
            format!(
                "{} --label {}",
                format("@new", "--slots 9"),
                "x".repeat(257)
            ),
            &["--label has 257 bytes", "at most 256"],
        ),
        // "- holds a value".
        (
            "put S k -".to_owned(),
            &["standard input holds a value of 0 bytes"],
        ),
        ("put S k S".to_owned(), &["1 to 4194304 bytes"]),
        ("get S k -o @folder/../store".to_owned(), &["store itself"]),
    ] {
        odd.fails(&command, words);
    }
    assert!(!odd.place.path("new").exists());
    odd.finish(12);
}

/// A result that cannot be written is an error on standard error, also with `--json`.
#[test]
fn a_full_standard_output_is_an_error() {
    let odd = Odd::new();
    let full = |args: &[&str]| {
        let to = std::fs::File::options()
            .write(true)
            .open(Path::new("/dev/full"))
            .unwrap();
        let mut rb = Command::new(env!("CARGO_BIN_EXE_rb"));
        let rb = rb.args(args).stdin(Stdio::null()).stdout(to);
        let output = rb.output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let store = arg(&odd.place.store);
    for args in [
        &["ls", store][..],
        &["ls", store, "--json"],
        &["info", store],
        &["info", store, "--json"],
        &["get", store, "k"],
        &["inspect", store],
        &["probe", store],
        &["fsck", store],
    ] {
        let (code, error) = full(args);
        assert_eq!(code, Some(1), "{args:?}: {error}");
        let words = ["writing to standard output failed", "No space left"];
        says(error.trim_end(), &words);
    }
}
