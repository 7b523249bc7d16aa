//! The quick form of the exhaustive search: `cargo xtask exhaust`.

use std::time::Duration;

use rb_tests::exhaust::{Initial, Operation, Options, Part, run};

use crate::support::is_long;

fn search(operations: usize, refuses: bool, time: Option<Duration>) -> rb_tests::exhaust::Report {
    let options = Options {
        operations,
        among: Operation::all(),
        initial: None,
        refuses,
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
    for refuses in [false, true] {
        assert!(search(1, refuses, None).is_complete());
    }
}

/// The progress of the search depends on the machine; the configurations and their order do not.
#[test]
fn crashes_of_two_operations_at_a_time_leave_what_they_may() {
    for refuses in [false, true] {
        search(2, refuses, Some(Duration::from_secs(10)));
    }
}

/// A checkpoint makes its base header before a flush, and may wait for the flush of a commit in between. The search
/// assumed that the checkpoint knew the header as it was after the wait: a put that drew its generation in the meantime
/// led "the same step" elsewhere, and different states counted as equal. It shows within half of this configuration.
#[test]
fn a_checkpoint_that_waits_for_a_flush_keeps_its_header() {
    let names = ["put-b", "remove-b-each", "checkpoint"];
    let options = Options {
        operations: names.len(),
        among: names.map(|name| name.parse().unwrap()).to_vec(),
        initial: Some(Initial::One),
        refuses: false,
        seed: None,
        // The fifth multiset of three has each of them once.
        part: "5/10".parse().unwrap(),
        time: (!is_long()).then_some(Duration::from_secs(5)),
        threads: 1,
    };
    let report = run(&options, |_| {}).unwrap();
    assert!(report.violation.is_none(), "{:?}", report.violation);
    assert!(
        report.executions > 100 && (report.is_complete() || !is_long()),
        "{report:?}"
    );
}

/// Runs every schedule of these operations over a store with these contents.
fn all_of(names: [&str; 2], initial: Initial, refuses: bool) {
    let options = Options {
        operations: names.len(),
        among: names.map(|name| name.parse().unwrap()).to_vec(),
        initial: Some(initial),
        refuses,
        seed: None,
        part: Part::WHOLE,
        time: None,
        threads: 1,
    };
    let report = run(&options, |_| {}).unwrap();
    assert!(report.violation.is_none(), "{:?}", report.violation);
    assert!(report.is_complete(), "{report:?}");
}

/// A put of two slots took the free one and had to wait for the commit that would free the other one. That commit was
/// done before it looked again, so that nothing waited any more, and it failed with `NoSpace`.
#[test]
fn a_put_of_two_slots_takes_one_that_was_freed_while_it_looked() {
    all_of(["remove-a-each", "two-a"], Initial::One, false);
}

/// A put that replaces saw enough free slots, and took its key for a new one without a look. Another put took the slot,
/// the policy refused the first, and the former value stayed where `NotAdmitted` says there is none.
#[test]
fn a_refused_put_leaves_no_value() {
    all_of(["put-a", "put-b"], Initial::One, true);
}

/// The put of b evicts a, which leaves no record. Then the put of a is refused, and durable.
#[test]
fn an_evicted_key_does_not_return_for_a_refused_put() {
    all_of(["put-a-each", "put-b"], Initial::Both, true);
}
