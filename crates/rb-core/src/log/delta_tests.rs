//! Length of the rests of a checkpoint and of discards; the order of callers that wait for space.

use rb_format::{Identity, StoreUuid};

use super::*;

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(50);

/// A ring of 64 blocks whose newest base is `grown` blocks back.
fn log(grown: u64) -> Arc<DeltaLog> {
    let identity = Identity {
        uuid: StoreUuid([7; 16]),
        epoch: 1,
    };
    let region = Region {
        offset: 0,
        bytes: 64 * FORMAT_BLOCK as u64,
    };
    let end = LogPosition {
        sequence: 100,
        anchor: 0,
    };
    let encoder = LogEncoder::new(identity, 1, end);
    let base = end.sequence - grown;
    Arc::new(DeltaLog::new(
        [region.clone(), region],
        encoder,
        retained(base, base),
    ))
}

fn retained(tail: u64, newest: u64) -> Retained {
    Retained {
        tail,
        newest,
        base_blocks: 0,
    }
}

fn rested(log: &DeltaLog, time: Duration) -> Duration {
    let start = Instant::now();
    log.rest_checkpoint(time);
    start.elapsed()
}

#[test]
fn a_rest_is_as_long_as_it_should_be_while_the_log_has_room() {
    let log = log(16);
    // A wakeup for other work must not end the rest.
    let other = Arc::clone(&log);
    let signals = std::thread::spawn(move || other.want_commit());
    assert!(rested(&log, SHORT) >= SHORT);
    signals.join().unwrap();
}

/// A checkpoint that kept resting while the log fills would end with callers waiting for space.
#[test]
fn rests_of_a_checkpoint_are_shorter_the_fuller_the_log() {
    // Halfway, and seven eighths of the way, from where a checkpoint is due to three eighths of the
    // ring.
    for (grown, part) in [(20, 2), (23, 8)] {
        let rested = rested(&log(grown), SHORT * part);
        assert!(rested >= SHORT, "{rested:?}");
        let rested = self::rested(&log(grown), LONG / 100);
        assert!(rested < LONG / 100, "{rested:?}");
    }
}

/// Regression test: a close waited for the rests of the discards in progress.
#[test]
fn rests_of_discards_end_when_the_store_closes() {
    let ends: [fn(&Arc<DeltaLog>); 2] =
        [|log| log.hurry_discards(), |log| log.stop(|| Error::Closed)];
    for end in ends {
        let log = log(0);
        assert!(log.rest_discards(SHORT));
        let ending = Arc::clone(&log);
        let ender = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            end(&ending);
        });
        let start = Instant::now();
        assert!(!log.rest_discards(LONG));
        assert!(start.elapsed() < LONG / 2);
        ender.join().unwrap();
    }
}

/// Neither a full log, a requested checkpoint, a caller that waits for space nor a close may wait
/// for a rest.
#[test]
fn no_caller_waits_for_a_rest() {
    // Three eighths of the ring.
    assert!(rested(&log(24), LONG) < LONG / 2);
    let ends: [fn(&Arc<DeltaLog>); 3] = [
        |log| log.hurry_checkpoint(),
        |log| log.stop(|| Error::Closed),
        |log| {
            let mut far_too_much = LogSpace::default();
            (0..10_000).for_each(|_| far_too_much.add(&[0; 64], &[], 1));
            assert!(log.admit(far_too_much, 1, &mut Patience::none()).is_err());
        },
    ];
    for end in ends {
        let log = log(0);
        let ending = Arc::clone(&log);
        let ender = std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            end(&ending);
        });
        assert!(rested(&log, LONG) < LONG / 2);
        ender.join().unwrap();
    }
    let hurried = log(0);
    hurried.hurry_checkpoint();
    assert!(rested(&hurried, LONG) < LONG / 2);
    hurried.retain(retained(0, 100));
    // The next checkpoint is not in a hurry.
    assert!(rested(&hurried, SHORT) >= SHORT);
}

/// Regression test: a batch that needed a quarter of the ring was overtaken by small ones until it
/// was `Busy`.
#[test]
fn no_caller_passes_one_that_waits_for_room() {
    let need = |records: usize| {
        let mut need = LogSpace::default();
        (0..records).for_each(|_| need.add(&[0; 1000], &[], 1));
        need
    };
    let log = log(0);
    let held = log.admit(need(60), 1, &mut Patience::none()).unwrap();
    let large = Arc::clone(&log);
    let waits = std::thread::spawn(move || large.admit(need(120), 1, &mut Patience::new(LONG)));
    while log.state.lock().line.is_empty() {
        std::thread::yield_now();
    }
    // Room for this one alone, but not for both.
    let small = log.admit(need(1), 1, &mut Patience::none());
    assert!(matches!(small, Err(Error::Busy { .. })));
    drop(held);
    drop(waits.join().unwrap().unwrap());
    drop(log.admit(need(1), 1, &mut Patience::none()).unwrap());
    assert!(log.state.lock().line.is_empty());
}
