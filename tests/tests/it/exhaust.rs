//! The quick form of the exhaustive search: `cargo xtask exhaust`.

use std::time::Duration;

use rb_tests::exhaust::{Operation, Options, Part, run};

fn search(operations: usize, time: Option<Duration>) -> rb_tests::exhaust::Report {
    let options = Options {
        operations,
        among: Operation::all(),
        initial: None,
        seed: Some(1),
        part: Part::WHOLE,
        time,
        threads: 2,
    };
    let report = run(&options, |_| {}).unwrap();
    let wrong = report.violation.as_ref();
    assert!(wrong.is_none(), "{wrong:?}");
    assert!(report.images > 100 && report.states > 100, "{report:?}");
    report
}

#[test]
fn every_crash_of_a_lone_operation_leaves_what_it_may() {
    assert!(search(1, None).is_complete());
}

/// How far it comes depends on the machine; the configurations and their order do not.
#[test]
fn crashes_of_two_operations_at_a_time_leave_what_they_may() {
    search(2, Some(Duration::from_secs(10)));
}
