//! The quick forms of `cargo xtask race`.

use rb_core::EngineKind;
use rb_tests::race::{Fixed, RaceOptions, Until, kept, run};
use rb_tests::tally::Report;

use crate::support::engines;

fn options(engine: EngineKind) -> RaceOptions {
    RaceOptions {
        program: env!("CARGO_BIN_EXE_race").into(),
        store: None,
        engine,
        seed: 1,
        until: Until::Rounds(16),
        session_ms: 150,
        fixed: Fixed::default(),
        keep: kept(),
    }
}

/// A put drew its generation before it took its slot, so that a later owner of the slot could have the lower
/// generation: recovery dropped acknowledged, synced values.
#[test]
fn threads_on_stores_that_are_dropped_closed_and_killed_lose_nothing() {
    for engine in engines() {
        let report = run(&options(engine), &mut |_| ()).unwrap();
        assert!(report.is_good(), "{report}");
        let ends = [report.dropped, report.closed, report.killed_working];
        assert!(ends.iter().all(|count| *count > 0), "{report}");
        assert!(report.evictions > 0 && report.ring_turns > 1.0, "{report}");
        assert!(report.several > 0, "{report}");
    }
}

#[test]
fn what_was_acknowledged_as_durable_is_there_after_kill_9() {
    for engine in engines() {
        let options = RaceOptions {
            until: Until::Kills(20),
            fixed: Fixed {
                threads: Some(16),
                each_batch: true,
            },
            ..options(engine)
        };
        let report = run(&options, &mut |_| ()).unwrap();
        assert!(report.is_good(), "{report}");
        assert!(report.killed_working > 0 && report.exact > 0, "{report}");
    }
}
