//! Tests of the numbers of openings for writing, which can run out: there is an early warning, then an error with a
//! message, and the count restarts from 1 when the store is started empty.

use rb_core::{AuditOptions, AuditState, Error, OpenError, RecoveryReport, audit};
use rb_format::{Generation, Incarnation};

use crate::support::{Sim, key, value};

const MAX: u32 = Generation::INCARNATION_MAX;

/// Makes the store as it is after this many openings.
fn opened_times(sim: &Sim, number: u32) {
    let store = sim.open_with(|options| options.read_only = true);
    let identity = store.superblock().identity;
    let nonce = [7; 16];
    let block = Incarnation {
        identity,
        number,
        nonce,
    };
    sim.device.poke(block.offset(), &block.encode()[..]);
}

/// Makes a store with a key that was opened this many times.
fn used(number: u32) -> Sim {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(&key(1), &value(1, 100)).unwrap();
    store.close().unwrap();
    opened_times(&sim, number);
    sim
}

fn read_only(sim: &Sim) -> RecoveryReport {
    let store = sim.open_with(|options| options.read_only = true);
    store.recovery().clone()
}

/// Returns the remarks of an audit on the numbers of openings.
fn remarks(sim: &Sim) -> Vec<String> {
    let report = audit(sim.engine(), &AuditOptions::default()).unwrap();
    assert_eq!(report.state, AuditState::Clean, "{report:?}");
    let findings = report.findings.into_iter();
    let words = findings.map(|found| format!("{}: {}; {}", found.wrong, found.meaning, found.lost));
    words.filter(|words| words.contains("openings")).collect()
}

/// A process per second that puts uses the numbers up in 48 days, and there was no warning before the last.
#[test]
fn seven_eighths_of_the_openings_are_a_warning() {
    let few = MAX - MAX / 8;
    let sim = used(few - 2);
    let store = sim.open();
    assert_eq!(store.recovery().openings, few - 1);
    assert_eq!(store.recovery().few_openings_left(), None);
    store.close().unwrap();
    assert_eq!(read_only(&sim).few_openings_left(), None);
    assert_eq!(remarks(&sim), [""; 0]);

    let store = sim.open();
    assert_eq!(store.recovery().openings, few);
    assert_eq!(store.recovery().few_openings_left(), Some(MAX / 8));
    store.close().unwrap();
    assert_eq!(read_only(&sim).few_openings_left(), Some(MAX / 8));
    let [remark] = &remarks(&sim)[..] else {
        panic!("one remark is expected");
    };
    let words = format!("{few} of {MAX} openings for writing are used up");
    assert!(remark.contains(&words), "{remark}");
    assert!(remark.contains("starting it empty"), "{remark}");
}

/// The error named formatting only, and starting empty continued with the number, so it was refused as well.
#[test]
fn a_store_without_openings_is_read_and_started_empty() {
    for number in [MAX, MAX - 1] {
        let sim = used(number);
        if number < MAX {
            sim.open().close().unwrap();
        }
        let error = sim.try_open(|_| {}).unwrap_err();
        assert!(
            matches!(error, OpenError::IncarnationsExhausted { limit: MAX, .. }),
            "{error:?}"
        );
        let words = error.to_string();
        for part in ["opens for reading", "start_empty", "formatting"] {
            assert!(words.contains(part), "{words}");
        }
        assert_eq!(read_only(&sim).few_openings_left(), Some(0));
        let store = sim.open_with(|options| options.read_only = true);
        assert_eq!(*store.get(&key(1)).unwrap().unwrap(), *value(1, 100));
        drop(store);

        let store = sim.open_with(|options| options.start_empty = true);
        assert_eq!(store.superblock().identity.epoch, 2);
        assert!((1..=2).contains(&store.recovery().openings));
        assert_eq!(store.recovery().few_openings_left(), None);
        assert!(store.get(&key(1)).unwrap().is_none());
        store.put(&key(2), &value(2, 100)).unwrap();
        store.close().unwrap();
        let store = sim.open();
        assert!((2..=3).contains(&store.recovery().openings));
        assert!(store.recovery().clean);
        assert_eq!(*store.get(&key(2)).unwrap().unwrap(), *value(2, 100));
        assert!(store.get(&key(1)).unwrap().is_none());
        store.close().unwrap();
        assert_eq!(remarks(&sim), [""; 0]);
    }
}

/// The lower number of the new epoch still stops the writer of the former one, and does so before it writes.
#[test]
fn a_writer_of_the_former_epoch_finds_the_lower_number() {
    for number in [MAX - 2, MAX - 3] {
        let sim = used(number);
        let former = sim.open();
        let store = sim.open_with(|options| options.start_empty = true);
        assert!(store.recovery().openings < former.recovery().openings);
        let put = former.put(&key(3), &value(3, 100));
        let stopped = put.and_then(|_| former.sync()).unwrap_err();
        assert!(matches!(stopped, Error::Poisoned { .. }), "{stopped}");
        assert!(stopped.to_string().contains("epoch 2"), "{stopped}");
        store.put(&key(2), &value(2, 100)).unwrap();
        store.sync().unwrap();
        store.close().unwrap();
        let store = sim.open();
        assert_eq!(*store.get(&key(2)).unwrap().unwrap(), *value(2, 100));
        assert!(store.get(&key(3)).unwrap().is_none());
    }
}

/// At every crash of the start there is the old store, which can still be read, or an empty one with all its openings.
#[test]
fn a_crash_of_the_start_that_resets_the_number_leaves_one_of_both() {
    for cut in 0.. {
        let sim = used(MAX);
        sim.device.cut_power_after(cut);
        let done = sim.try_open(|options| options.start_empty = true).is_ok();
        for seed in 0..32 {
            let image = sim.crash_seeded(seed);
            let report = read_only(&image);
            assert_eq!(report.lost_metadata, None, "cut {cut}, seed {seed}");
            match image.try_open(|_| {}) {
                Ok(store) => {
                    assert_eq!(store.superblock().identity.epoch, 2);
                    assert!(store.recovery().openings <= 4, "{:?}", store.recovery());
                    assert!(store.get(&key(1)).unwrap().is_none());
                }
                Err(OpenError::IncarnationsExhausted { .. }) => {
                    assert!(!done && report.entries == 1, "cut {cut}, seed {seed}");
                    let store = image.open_with(|options| options.start_empty = true);
                    assert_eq!(store.recovery().few_openings_left(), None);
                }
                Err(error) => panic!("cut {cut}, seed {seed}: {error:?}"),
            }
        }
        if done {
            assert!(cut > 5, "it has more writes than {cut}");
            return;
        }
    }
}
