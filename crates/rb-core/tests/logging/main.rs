//! Tests of the spans and events of the feature `tracing`: the whole life of a store, and each cause of an event.
//!
//! One subscriber listens to the whole process, as in a host, because stores have threads. So the tests run one at a time.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod capture;
mod causes;
mod fixture;
mod table;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use capture::{PANICS, Seen, alone, take};
use fixture::{MARK, Sim, key, value};

/// Longer than any of these tests takes, and shorter than a mutant's harness is waited for. A lock that is held while the
/// subscriber calls the store hangs.
const LONG: Duration = Duration::from_mins(1);

/// Runs `work`, and fails if it does not end.
fn ends<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(done.send(work())));
    match ended.recv_timeout(LONG) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            // The tests after this one must not hang, too.
            capture::call(None);
            panic!("it hangs");
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().unwrap_err())
        }
    }
}

/// Every cause has its events, the documented table has all of them with their levels and fields, and no text has a byte
/// of a key, a value or metadata. The subscriber calls the store from each event and span.
#[test]
fn each_event_has_its_cause_and_none_has_keys_or_values() {
    let _alone = alone();
    let seen = ends(|| {
        let mut all = Vec::new();
        for (messages, cause) in causes::ALL {
            cause();
            let seen = take();
            for message in *messages {
                assert!(
                    seen.iter().any(|seen| seen.name == *message),
                    "{message:?} is not among {seen:#?}"
                );
            }
            all.extend(seen);
        }
        all
    });
    for seen in &seen {
        let text = format!("{seen:?}");
        for secret in secrets() {
            assert!(!text.contains(&secret), "{text} has {secret}");
        }
    }
    let documented = table::read();
    for seen in &seen {
        assert_eq!(seen.target, "rb_core");
        let inside = match seen.name.as_str() {
            "recovery" => Some("open"),
            "stage" if seen.value("stage") != Some("\"validation\"") => Some("recovery"),
            _ => None,
        };
        assert_eq!(seen.inside.as_deref(), inside, "{seen:?}");
        let row = documented.iter().find(|row| row.is_of(seen));
        let row = row.unwrap_or_else(|| panic!("logging.md does not list {seen:?}"));
        assert_eq!(row.level, seen.level, "{seen:?}");
        let undocumented: BTreeSet<_> = seen.fields.difference(&row.fields).collect();
        assert!(
            undocumented.is_empty(),
            "logging.md lacks {undocumented:?} of {seen:?}"
        );
    }
    for row in &documented {
        let of_row = seen.iter().filter(|seen| row.is_of(seen));
        let fields: BTreeSet<String> = of_row.flat_map(|seen| seen.fields.clone()).collect();
        assert_eq!(fields, row.fields, "{}: seen, and in logging.md", row.name);
    }
}

/// The mark as text, in hexadecimal, and as a list of bytes.
fn secrets() -> [String; 3] {
    let bytes = MARK.as_bytes();
    let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<_> = bytes.iter().map(ToString::to_string).collect();
    [MARK.to_owned(), hex.concat(), list.join(", ")]
}

/// A subscriber that panicked unwound through operations that held slots and leases, and ended the store's threads.
#[test]
fn a_subscriber_that_panics_costs_nothing() {
    let _alone = alone();
    let sim = Sim::new();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    PANICS.store(true, Ordering::Relaxed);
    let outcome = ends(move || {
        let store = sim.open_with(|options| {
            options.background = rb_core::Background::Threads;
        });
        for n in 0..2 * Sim::SLOTS {
            store.put(&key(n), &value(n)).unwrap();
            assert!(store.get_async(&key(n)).wait().unwrap().is_some());
        }
        sim.corrupt_value(&store, 40);
        assert!(store.get(&key(40)).unwrap().is_none(), "it is damaged");
        store
            .remove_many_async(&[&key(41)])
            .wait()
            .remove(0)
            .unwrap();
        store.sync_async().wait().unwrap();
        store.checkpoint().unwrap();
        store.audit().unwrap();
        store.close()
    });
    PANICS.store(false, Ordering::Relaxed);
    std::panic::set_hook(hook);
    outcome.unwrap();
    take();
}

/// A device on which every read fails reports each of them in its result, and few of them as events.
#[test]
fn a_failing_device_floods_no_log() {
    let _alone = alone();
    let sim = Sim::new();
    let seconds = ends(move || {
        let store = sim.open();
        for n in 0..8 {
            store.put(&key(n), &value(n)).unwrap();
        }
        sim.fail_reads(&store);
        let start = std::time::Instant::now();
        for n in 0..2000 {
            assert!(store.get(&key(n % 8)).is_err());
        }
        store.close().unwrap();
        start.elapsed().as_secs() + 1
    });
    let seen = take();
    let count = |name: &str| seen.iter().filter(|seen| seen.name == name).count();
    let events = count("read failed");
    assert!(
        (10..=10 * (seconds as usize + 1)).contains(&events),
        "{events} in {seconds} s"
    );
    let counted = |seen: &Seen, field| seen.value(field).map_or(0, |text| text.parse().unwrap());
    let of_next = seen.iter().filter(|seen| seen.name == "read failed");
    let left_out: u64 = of_next.map(|seen| counted(seen, "left_out")).sum();
    let last = seen.iter().find(|seen| seen.name == "events left out");
    let last = last.map_or(0, |seen| counted(seen, "count"));
    assert_eq!(events as u64 + left_out + last, 2000);
}
