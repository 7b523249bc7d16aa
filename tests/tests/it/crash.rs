//! Crashes on a simulated device, the quick form; `cargo xtask crash` is the long one.

use std::time::Duration;

use rb_tests::crash::{Options, Report, run};

fn runs(seed: u64, runs: u64, threads: usize) -> Report {
    let options = Options {
        seed,
        runs,
        time: Duration::from_secs(600),
        threads,
        trace: None,
    };
    run(&options, |_| {})
}

#[test]
fn crashes_lose_nothing_that_was_synced_and_bring_back_nothing_that_was_removed() {
    let report = runs(1, 12, 2);
    assert_eq!(
        report.violation, None,
        "repeat with: cargo xtask crash --runs 1 --trace --seed N"
    );
    assert!(report.distinct > 4_000, "{} images", report.distinct);
}

/// Whatever a run finds must be found again.
#[test]
fn a_run_is_a_function_of_its_seed() {
    let counts = |report: &Report| {
        let states: Vec<_> = report.states.counts().map(|(_, count)| count).collect();
        (
            report.points,
            report.images,
            report.distinct,
            report.restarts,
            states,
        )
    };
    let [first, second] = [(), ()].map(|()| runs(7, 1, 1));
    assert_eq!(counts(&first), counts(&second));
}
