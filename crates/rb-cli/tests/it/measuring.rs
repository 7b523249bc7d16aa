//! The commands that kill themselves: `rb demo` and `rb recover-bench`.

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
    assert_eq!((of("lost"), of("wrong")), (0, 0), "{line}");
    assert!(of("acknowledged_blocks") >= 3000, "{line}");
    assert!(of("turns_before_kill") > 500, "{line}");
    assert_eq!(of("turns_after_restart"), 120, "{line}");
    assert!(
        of("verified_bytes") >= of("acknowledged_blocks") * of("value_bytes"),
        "{line}"
    );
    assert_eq!(line["clean_restart_clean"], true, "{line}");
    assert_eq!(of("clean_restart_live"), of("live"), "{line}");
    let left = std::fs::read_dir(place.folder.path()).unwrap().count();
    assert_eq!(left, 0, "the temporary folder was left behind");
}

#[test]
fn restarts_are_measured_after_a_close_and_after_kills() {
    let place = Place::new();
    let args = ["--entries", "3000", "--full-log"];
    let line = place
        .rb(&["recover-bench", "--json", "--store"], &args)
        .json();
    assert_eq!(line["clean"]["clean"], true, "{line}");
    assert_eq!(line["clean"]["entries"], 3000, "{line}");
    let blocks = |name: &str| line[name]["log_blocks"].as_u64().unwrap();
    let log = line["log_bytes"].as_u64().unwrap() / 4096;
    assert!(blocks("clean") < 10, "{line}");
    // A killed process leaves its log: almost a quarter of the ring, or almost all of it.
    assert!(
        blocks("killed") > log / 8 && blocks("killed") <= log / 4,
        "{line}"
    );
    assert!(blocks("killed_full_log") > log * 3 / 4, "{line}");
    for name in ["killed", "killed_longest", "killed_full_log"] {
        assert_eq!(line[name]["clean"], false, "{name}: {line}");
        assert!(
            line[name]["first_get_seconds"].as_f64().unwrap() > 0.0,
            "{name}: {line}"
        );
    }
    assert!(
        !place.store.exists(),
        "the store that it made was left behind"
    );
}

#[test]
fn a_bench_of_nothing_is_refused() {
    let place = Place::new();
    for (args, words) in [
        (&["--entries", "10", "--key-bytes", "7"][..], "8 to 1024"),
        (
            &["--entries", "10", "--value-bytes", "0"],
            "at least 1 byte",
        ),
        (&["--entries", "0"], "0"),
    ] {
        let error = place.rb(&["recover-bench", "--store"], args).error();
        assert!(error.contains(words), "{error}");
        assert!(!place.store.exists());
    }
}
