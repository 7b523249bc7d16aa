//! The quick form of the crash harness; `cargo xtask crash` is the long one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rb_tests::crash::{Kind, Options, Report, run};

fn options(seed: u64, runs: u64, threads: usize) -> Options {
    Options {
        seed,
        runs,
        time: Duration::from_mins(10),
        threads,
        trace: None,
    }
}

#[test]
fn crashes_lose_nothing_that_was_synced_and_bring_back_nothing_that_was_removed() {
    let report = run(&options(1, 12, 2), |_| {});
    assert_eq!(
        report.violation, None,
        "repeat with: cargo xtask crash --runs 1 --trace --seed N"
    );
    assert!(report.distinct > 4_000, "{} images", report.distinct);
    // Each operation began inside others; the long form requires each at each place.
    for (number, kind) in Kind::ALL.iter().enumerate() {
        let begun: u64 = report.pairs.rows().map(|(_, counts)| counts[number]).sum();
        assert!(begun > 20, "{kind}: {begun} in another operation");
    }
}

/// A violation must be found again from the same seed, operation by operation.
#[test]
fn a_run_is_a_function_of_its_seed() {
    let traced = || {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&lines);
        let options = Options {
            trace: Some(Arc::new(move |line: &str| {
                keep.lock().unwrap().push(line.to_owned());
            })),
            ..options(7, 1, 1)
        };
        let report = run(&options, |_| {});
        (std::mem::take(&mut *lines.lock().unwrap()), report)
    };
    let [(first, one), (second, other)] = [traced(), traced()];
    assert!(first.len() > 1_000, "{} lines", first.len());
    let differs = first
        .iter()
        .zip(&second)
        .position(|(one, other)| one != other);
    assert_eq!(differs, None, "the first line that differs");
    assert_eq!(first.len(), second.len());
    let counts = |report: &Report| {
        let states: Vec<_> = report.states.counts().map(|(_, count)| count).collect();
        let pairs: Vec<_> = report
            .pairs
            .rows()
            .map(|(_, counts)| counts.to_vec())
            .collect();
        (
            report.points,
            report.images,
            report.distinct,
            report.restarts,
            states,
            pairs,
            report.violation.clone(),
        )
    };
    assert_eq!(counts(&one), counts(&other));
}
