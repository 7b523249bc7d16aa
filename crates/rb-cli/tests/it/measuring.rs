//! The commands that measure: `rb demo`, `rb recover-bench` and `rb bench`.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rb_core::{Store, StoreOptions};
use serde_json::Value;

use crate::program::{Place, arg, rb};

#[test]
fn the_demo_loses_nothing() {
    let place = Place::new();
    let folder = arg(place.folder.path());
    let line = rb(["demo", "--json", "--turns", "120", "--dir", folder]).json();
    let of = |name: &str| {
        line[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {line}"))
    };
    assert_eq!((of("lost_blocks"), of("wrong_blocks")), (0, 0), "{line}");
    assert!(of("acknowledged_blocks") >= 3000, "{line}");
    assert!(of("turns_before_kill") > 500, "{line}");
    assert_eq!(of("turns_after_restart"), 120, "{line}");
    assert!(
        of("verified_bytes") >= of("acknowledged_blocks") * of("value_bytes"),
        "{line}"
    );
    assert_eq!(line["clean_restart_clean"], true, "{line}");
    assert_eq!(of("clean_restart_entries"), of("entries"), "{line}");
    let left = std::fs::read_dir(place.folder.path()).unwrap().count();
    assert_eq!(left, 0, "the temporary folder was left behind");
}

/// One of the restarts that `rb recover-bench` measured.
fn case<'a>(line: &'a Value, name: &str) -> &'a Value {
    let cases = line["cases"].as_array().unwrap();
    cases.iter().find(|case| case["case"] == name).unwrap()
}

#[test]
fn restarts_are_measured_after_a_close_and_after_kills() {
    let place = Place::new();
    let args = ["--entries", "20000", "--full-log"];
    let line = place
        .rb(&["recover-bench", "--json", "--store"], &args)
        .json();
    assert_eq!(case(&line, "clean_close")["clean"], true, "{line}");
    assert_eq!(case(&line, "clean_close")["entries"], 20_000, "{line}");
    let blocks = |name: &str| case(&line, name)["log_blocks"].as_u64().unwrap();
    let log = line["log_bytes"].as_u64().unwrap() / 4096;
    assert!(blocks("clean_close") < 10, "{line}");
    // A killed process leaves its log: almost a quarter of the ring, or almost all of it.
    assert!(
        blocks("killed_usual_log") > log / 8 && blocks("killed_usual_log") <= log / 4,
        "{line}"
    );
    // Not all of it: the ring keeps what came after the older of the two bases.
    // How much that is depends on how long the checkpoint took that the kill before it interrupted.
    assert!(blocks("killed_full_log") > log / 4, "{line}");
    for name in ["killed_usual_log", "killed_longest_log", "killed_full_log"] {
        assert_eq!(case(&line, name)["clean"], false, "{name}: {line}");
        assert!(
            case(&line, name)["first_get_seconds"].as_f64().unwrap() > 0.0,
            "{name}: {line}"
        );
    }
    assert!(
        !place.store.exists(),
        "the store that it made was left behind"
    );
}

/// A restart of values of several slots is measured like one of single slots.
#[test]
fn a_store_of_values_of_several_slots_is_measured() {
    let place = Place::new();
    let fill = ["--entries", "20000", "--value-bytes", "12KiB"];
    let measure = |slots: &str| {
        let args = [&fill[..], &["--value-slots", slots]].concat();
        place.rb(&["recover-bench", "--json", "--store"], &args)
    };
    let line = measure("3").json();
    assert_eq!(line["value_slots"], 3, "{line}");
    assert_eq!(case(&line, "clean_close")["entries"], 20_000, "{line}");
    assert_eq!(case(&line, "clean_close")["missed_gets"], 0, "{line}");
    for (slots, why) in [("4", "1 to 3 slots"), ("0", "1 to 3 slots")] {
        let error = measure(slots).json_error();
        assert!(error.contains(why), "{error}");
    }
}

/// The values of ten million entries fit no test machine, and a restart needs only one of them.
#[test]
fn a_store_is_measured_most_of_whose_values_were_never_written() {
    let place = Place::new();
    let fill = ["--entries", "20000", "--write-every", "20"];
    let args = [&fill[..], &["--rounds", "2", "--keep"]].concat();
    let line = place
        .rb(&["recover-bench", "--json", "--store"], &args)
        .json();
    assert_eq!(
        (&line["write_every"], &line["validate"]),
        (&20.into(), &"off".into()),
        "{line}"
    );
    assert_eq!(case(&line, "clean_close")["entries"], 20_000, "{line}");
    for name in ["clean_close", "killed_usual_log", "killed_longest_log"] {
        // A get of a skipped value would drop its entry, and the next round would have fewer. A process that is
        // killed while it writes has overwritten some values.
        let missed = case(&line, name)["missed_gets"].as_u64().unwrap();
        assert!(
            missed == 0 || name == "killed_longest_log",
            "{name}: {line}"
        );
        let seconds = |value: &Value| value.as_f64().unwrap();
        let rounds = case(&line, name)["first_get_rounds_seconds"]
            .as_array()
            .unwrap();
        assert_eq!(rounds.len(), 2, "{name}: {line}");
        let slower = seconds(&rounds[0]).max(seconds(&rounds[1]));
        let shown = seconds(&case(&line, name)["first_get_seconds"]);
        assert_eq!(shown, slower, "{name}: {line}");
    }
    let used = std::fs::metadata(&place.store).unwrap().blocks() * 512;
    let values = 20_000 * 8192;
    assert!(used < values / 4, "{used} of {values} bytes were written");

    // A process that skips writes locks the store, too.
    let args = [&fill[..], &["--until", "usual"]].concat();
    let mut churn = Command::new(env!("CARGO_BIN_EXE_rb"))
        .args(place.args(&["recover-churn", "--store"], &args))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(churn.stdout.take().unwrap());
    lines.read_line(&mut said).unwrap();
    let second = Store::open(&place.store, StoreOptions::default());
    churn.kill().unwrap();
    churn.wait().unwrap();
    assert_eq!(said, "ready\n");
    let refused = second.unwrap_err().to_string();
    assert!(refused.contains("in use"), "{refused}");
}

#[test]
fn a_bench_of_nothing_or_little_is_refused() {
    let place = Place::new();
    for (args, words) in [
        (&["--entries", "10", "--key-bytes", "7"][..], "8 to 1024"),
        (
            &["--entries", "10", "--value-bytes", "0"],
            "at least 1 byte",
        ),
        (&["--entries", "0"], "--entries is 0"),
        (&["--entries", "19999"], "at least 20000 are needed"),
        (&["--entries", "19999"], "because"),
        (&["--entries", "20000", "--write-every", "0"], "1 to 20"),
        (&["--entries", "20000", "--write-every", "21"], "1 to 20"),
        (
            &[
                "--entries",
                "20000",
                "--write-every",
                "20",
                "--validate",
                "eager",
            ],
            "only off",
        ),
    ] {
        let error = place.rb(&["recover-bench", "--store"], args).error();
        assert!(error.contains(words), "{error}");
        assert!(!place.store.exists());
    }
}

#[test]
fn an_error_of_a_child_is_reported() {
    // The store's file is removed while the parent fills it, so the child that measures cannot open it.
    let place = Place::new();
    let args = ["--entries", "60000", "--keep"];
    let bench = Command::new(env!("CARGO_BIN_EXE_rb"))
        .args(place.args(&["recover-bench", "--json", "--store"], &args))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let options = StoreOptions {
        read_only: true,
        ..StoreOptions::default()
    };
    // A store that is not clean is open for writing: the parent fills it.
    while !Store::open(&place.store, options.clone()).is_ok_and(|store| !store.recovery().clean) {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::remove_file(&place.store).unwrap();
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = line["error"].as_str().unwrap();
    assert!(
        error.starts_with("the child process that measures: opening "),
        "{error}"
    );
    assert!(error.contains("No such file"), "{error}");
    assert!(!error.contains("{\"error\""), "{error}");
}

#[test]
fn a_bench_measures_and_checks_every_byte() {
    let place = Place::new();
    let common = [
        "--size",
        "24MiB",
        "--value-bytes",
        "64KiB",
        "--seconds",
        "0.2",
    ];
    let bench = |more: &[&str]| {
        place.rb(
            &["bench", "--json", "--store"],
            &[&common[..], more].concat(),
        )
    };
    let cases: [&[&str]; 4] = [
        &["--op", "put", "--depth", "4"],
        &[
            "--op",
            "get",
            "--depth",
            "8",
            "--batch",
            "4",
            "--threads",
            "2",
        ],
        &["--op", "get", "--blocking", "--batch", "8"],
        &["--op", "put", "--blocking", "--batch", "2"],
    ];
    let mut verified = Vec::new();
    for case in cases {
        let line = bench(case).json();
        assert_eq!(
            (&line["wrong_bytes"], &line["errors"]),
            (&0.into(), &0.into()),
            "{line}"
        );
        for figure in [
            "bytes_per_second",
            "values_per_second",
            "p50_us",
            "p99_us",
            "cpu_seconds_per_gb",
        ] {
            assert!(line[figure].as_f64().unwrap() > 0.0, "{figure}: {line}");
        }
        assert!(
            line["commits"].as_u64().unwrap() > 0 || line["op"] == "get",
            "{line}"
        );
        verified.push(line["verified_bytes"].as_u64().unwrap());
    }
    // A size that the store does not have was ignored.
    let other_size = ["bench", "--op", "get", "--size", "25MiB", "--store"];
    let said = place.rb(&other_size, &[]).error();
    crate::bad_input::says(&said, &["--size is 26214400", "25161728", "--fresh --yes"]);
    // One store for all of them.
    assert!(
        verified.iter().all(|bytes| *bytes > 10 << 20),
        "{verified:?}"
    );
}

/// A store with other content than a bench's values is not written to without consent.
#[test]
fn a_bench_leaves_other_stores_alone() {
    let place = Place::formatted();
    let value = place.file("value", b"mine");
    place.rb(&["put"], &["mine", arg(&value)]).text();
    let args = ["--op", "put", "--value-bytes", "4KiB", "--seconds", "0.1"];
    let said = place.rb(&["bench", "--store"], &args).error();
    assert!(said.contains("did not put"), "{said}");
}

/// A refused bench opened the store for writing first and left it "not clean", after which fsck took real damage for
/// what a crash leaves. An empty store was filled without consent.
#[test]
fn a_bench_that_is_refused_changes_nothing() {
    let place = Place::formatted();
    let clean = |place: &Place| {
        let info = place.rb(&["info", "--json"], &[]).json();
        info["recovery"]["clean"].clone()
    };
    let value = place.file("value", b"mine");
    let bench = |bytes, more: &[&str]| {
        let args = ["--op", "get", "--seconds", "0.1", "--value-bytes", bytes];
        let said = place.rb(&["bench", "--store"], &[&args[..], more].concat());
        let said = said.error();
        assert_eq!(clean(&place), true, "{said}");
        said
    };
    place.rb(&["put"], &["mine", arg(&value)]).text();
    let before = std::fs::read(&place.store).unwrap();
    for (bytes, words) in [("4KiB", "did not put"), ("1MiB", "did not put")] {
        let said = bench(bytes, &[]);
        assert!(said.contains(words), "{said}");
    }
    assert!(std::fs::read(&place.store).unwrap() == before);
    // --yes alone is not enough here.
    let said = bench("64KiB", &["--yes"]);
    assert!(said.contains("--fresh --yes makes a new one"), "{said}");
    place.rb(&["rm"], &["mine"]).text();
    let before = std::fs::read(&place.store).unwrap();
    let said = bench("64KiB", &["--depth", "4"]);
    assert!(said.contains("empty store: give --yes"), "{said}");
    let said = bench("64KiB", &["--depth", "64", "--yes"]);
    assert!(said.contains("64 in flight"), "{said}");
    assert!(std::fs::read(&place.store).unwrap() == before);
}
