//! Opens and uses a device of unknown content, and checks what must hold throughout.

use std::sync::Arc;

use rb_core::{Durability, OnLostMetadata, PutOutcome, Store, StoreOptions, Validate};
use rb_testkit::MemDevice;

use super::sample::{KEYS, VERSIONS, key, learned, open, options, value};

/// Opens the device, uses it if that works, closes it and opens it again.
///
/// `values_are_true` means that no slot header was forged, so every value that is found must have been put.
pub(super) fn open_and_use(
    device: &Arc<MemDevice>,
    choice: u8,
    operations: &[u8],
    values_are_true: bool,
) {
    // An error with a message is a right result for garbage.
    let Ok(store) = open(device, chosen(choice)) else {
        return;
    };
    let mut user = User {
        store,
        values_are_true,
        next_version: 4,
    };
    user.check_all();
    for &operation in operations {
        user.operate(operation);
    }
    let answers = user.check_all();
    let is_writer = choice & READ_ONLY == 0;
    let closed = user.store.close();
    drop(user.store);
    if closed.is_err() || !is_writer {
        return;
    }
    let store = open(device, options()).expect("a store that was closed cleanly opens");
    let report = store.recovery();
    assert!(report.clean, "closed cleanly, yet not clean: {report:?}");
    assert_eq!(
        report.lost_metadata, None,
        "closed cleanly, yet metadata is lost"
    );
    let user = User {
        store,
        values_are_true,
        next_version: 0,
    };
    for (number, (before, after)) in (0..).zip(answers.iter().zip(user.check_all())) {
        let same = before.is_none() || *before == after;
        assert!(
            same,
            "key {number} returns another value after a clean restart"
        );
    }
}

const READ_ONLY: u8 = 8;

fn chosen(choice: u8) -> StoreOptions {
    StoreOptions {
        on_lost_metadata: match choice & 1 {
            0 => OnLostMetadata::Scan,
            _ => OnLostMetadata::Empty,
        },
        validate: match choice >> 1 & 3 {
            0 | 1 => Validate::Off,
            2 => Validate::Background,
            _ => Validate::Eager,
        },
        read_only: choice & READ_ONLY != 0,
        start_empty: choice & 0x30 == 0x30,
        shards: Some(if choice & 0x40 == 0 { 4 } else { 1 }),
        policy: (choice & 0x80 != 0).then(learned),
        durability: match choice & 0x10 {
            0 => Durability::Interval,
            _ => Durability::EachBatch,
        },
        ..options()
    }
}

/// Result of a get; `None` for an error, which allows no conclusion.
type Answer = Option<Option<Vec<u8>>>;

struct User {
    store: Store,
    values_are_true: bool,
    next_version: u8,
}

impl User {
    /// Gets every key: each value was put for its key (C1), and the accounting holds.
    fn check_all(&self) -> Vec<Answer> {
        let answers = (0..KEYS).map(|number| self.get(number)).collect();
        self.store.audit().unwrap_or_else(|why| panic!("{why}"));
        answers
    }

    fn get(&self, number: u8) -> Answer {
        let found = self
            .store
            .get(&key(number))
            .ok()?
            .map(|value| value.to_vec());
        if let (Some(bytes), true) = (&found, self.values_are_true) {
            let known = (0..VERSIONS).any(|version| *bytes == value(number, version));
            assert!(
                known,
                "key {number}: {} bytes that were never put",
                bytes.len()
            );
        }
        Some(found)
    }

    /// Runs one operation; once acknowledged, it must have taken effect.
    fn operate(&mut self, operation: u8) {
        let number = operation % KEYS;
        match operation / KEYS % 12 {
            0..=5 => {
                let version = self.next_version;
                self.next_version = 4 + (version + 1) % 4;
                let bytes = value(number, version);
                match self.store.put(&key(number), &bytes) {
                    Ok(PutOutcome::NotAdmitted) => {
                        assert_eq!(self.get(number), Some(None), "key {number} is refused");
                    }
                    Ok(done) => {
                        assert!(done.is_written(), "no one else puts key {number}");
                        assert_eq!(self.get(number), Some(Some(bytes)), "key {number} was put");
                    }
                    Err(_) => {}
                }
            }
            6 | 7 => {
                if self.store.remove(&key(number)).is_ok() {
                    assert_eq!(self.get(number), Some(None), "key {number} was removed");
                }
            }
            8 => drop(self.store.sync()),
            9 => drop(self.store.checkpoint()),
            10 => drop(self.store.step_validate(5)),
            _ => {
                let locks = self.store.lookup_and_pin(&[&key(number)]);
                self.store.unpin(locks.into_iter().flatten().collect());
            }
        }
    }
}
