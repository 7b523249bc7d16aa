//! The quick form of `cargo xtask churn`.

use std::time::Duration;

use rb_tests::churn::{ChurnOptions, run};
use rb_tests::tally::Report;

use crate::support::engines;

#[test]
fn readers_against_delete_and_reuse() {
    for engine in engines() {
        for discard in [false, true] {
            let options = ChurnOptions {
                engine,
                time: Duration::from_secs(1),
                discard,
                seed: 7,
            };
            let report = run(&options).unwrap();
            assert!(report.is_good(), "{report}");
        }
    }
}
