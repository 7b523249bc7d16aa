//! Old contents stay old: nothing of an older incarnation of a store comes back, and a device full of old data keeps
//! working (C1, C3, C4). File stores, each engine.

use std::time::Duration;

use rb_core::{ClassRequest, Durability, FormatOptions, Put, PutOptions, Share, Store, format};

use crate::support::{FileFixture, base_headers, ends_within, engines, key, value, zero};

const LEN: usize = 3500;
const KEYS: u64 = 60;

/// Returns the value of a key in an age of the store.
fn of_age(n: u64, age: u64) -> Vec<u8> {
    value(n << 8 | age, LEN)
}

/// Ways in which a store becomes another one.
#[derive(Clone, Copy, Debug)]
enum Again {
    StartEmpty,
    Format { slot_bytes: u64, sparse: bool },
}

fn classes(slot_bytes: u64) -> Vec<ClassRequest> {
    vec![ClassRequest {
        slot_bytes,
        share: Share::Slots(48),
    }]
}

impl Again {
    fn open(self, fixture: &FileFixture) -> Store {
        match self {
            Again::StartEmpty => fixture.open_with(|options| options.start_empty = true),
            Again::Format { slot_bytes, sparse } => {
                format(&FormatOptions {
                    sparse,
                    consent: true,
                    ..FormatOptions::new(fixture.path(), classes(slot_bytes))
                })
                .unwrap();
                fixture.open()
            }
        }
    }
}

/// Checks that every present key has the value of this age. Returns how many there are.
fn all_of_age(store: &Store, age: u64, when: &str) -> u64 {
    let mut there = 0;
    for n in 0..KEYS {
        if let Some(found) = store.get(&key(n)).unwrap() {
            assert!(
                found == of_age(n, age)[..],
                "{when}: key {n} is not of age {age}"
            );
            there += 1;
        }
    }
    store.audit().unwrap();
    there
}

/// Old headers and payloads stay where they are: at the positions of the new slots (the same size, or one of which a
/// new slot takes two), or inside them. They name another store or epoch. Neither the index nor, when both bases are
/// lost, a scan of headers may find them. Returns the store's file as it is after a sync and a kill, or after a close.
fn left(fixture: FileFixture, store: Store, killed: bool) -> FileFixture {
    store.sync().unwrap();
    let fixture = if killed { fixture.image() } else { fixture };
    store.close().unwrap();
    fixture
}

#[test]
fn no_old_value_after_formatting_again_or_starting_empty() {
    let format = |slot_bytes, sparse| Again::Format { slot_bytes, sparse };
    for engine in engines() {
        // The first age ends by a kill, in the middle of its log, or by a close.
        for (killed, again) in [
            (true, Again::StartEmpty),
            (false, Again::StartEmpty),
            (false, format(4096, true)),
            (true, format(4096, false)),
            (true, format(12288, true)),
            (false, format(16384, false)),
        ] {
            let when = format!("{engine}, {again:?}, killed {killed}");
            let first = FileFixture::with(classes(4096), |_| {}).on(engine);
            let store = first.open();
            for n in 0..KEYS {
                store.put(&key(n), &of_age(n, 1)).unwrap();
            }
            let fixture = left(first, store, killed);

            let store = again.open(&fixture);
            assert_eq!(all_of_age(&store, 2, &when), 0, "{when}");
            for n in 0..20 {
                store.put(&key(n), &of_age(n, 2)).unwrap();
            }
            for n in 0..5 {
                assert!(store.remove(&key(n)).unwrap().is_some());
            }
            store.sync().unwrap();
            let fixture = fixture.image();
            let superblock = store.superblock().clone();
            drop(store);
            for restart in 0..3 {
                let store = fixture.open();
                assert_eq!(
                    all_of_age(&store, 2, &when),
                    15,
                    "{when}, restart {restart}"
                );
                if restart == 1 {
                    store.close().unwrap();
                }
            }
            base_headers(&superblock).for_each(|at| zero(&fixture, at, 4096));
            let store = fixture.open();
            let scanned = store.recovery().scanned.unwrap();
            assert_eq!(scanned.headers, 20, "{when}: {scanned:?}");
            assert_eq!(all_of_age(&store, 2, &when), 20, "{when}, scanned");
        }
    }
}

#[test]
fn removed_keys_stay_removed_through_three_restarts() {
    for engine in engines() {
        let fixture = FileFixture::new(4096, 64).on(engine);
        let store = fixture.open();
        for n in 0..40 {
            store.put(&key(n), &of_age(n, 1)).unwrap();
        }
        store.checkpoint().unwrap();
        for n in 0..20 {
            assert!(store.remove(&key(n)).unwrap().is_some());
        }
        store.sync().unwrap();
        // First a kill, then a close, then none.
        let fixture = fixture.image();
        for restart in 0..3 {
            let store = fixture.open();
            assert!(
                (0..20).all(|n| !store.contains(&key(n))),
                "restart {restart}"
            );
            assert_eq!(
                all_of_age(&store, 1, "after removes"),
                20,
                "restart {restart}"
            );
            if restart == 1 {
                store.close().unwrap();
            }
        }
    }
}

/// Neither a put nor a remove nor a close may wait for space that will never be freed.
#[test]
fn a_full_device_works_after_a_restart() {
    for engine in engines() {
        for killed in [true, false] {
            let fixture = FileFixture::with(classes(4096), |options| {
                options.log_bytes = Some(64 * 4096);
            });
            let first = fixture.on(engine);
            let store = first.open();
            for n in 0..KEYS {
                store.put(&key(n), &of_age(n, 1)).unwrap();
            }
            let fixture = left(first, store, killed);
            let store = fixture.open();
            assert_eq!(store.stats().index.classes[0].free, 0);
            let in_time = ends_within(Duration::from_secs(30), move || {
                for n in 0..KEYS {
                    store.put(&key(n), &of_age(n, 2)).unwrap();
                }
                let names: Vec<_> = (0..20).map(key).collect();
                let values: Vec<_> = (0..20).map(|n| of_age(n, 2)).collect();
                for durability in [Durability::EachBatch, Durability::Interval] {
                    let options = PutOptions {
                        durability: Some(durability),
                        ..PutOptions::default()
                    };
                    let batch = || {
                        names
                            .iter()
                            .zip(&values)
                            .map(|(k, v)| Put::new(k, v))
                            .collect()
                    };
                    let started = store.put_many_async(batch(), options);
                    assert!(store.put_many(batch(), options).iter().all(Result::is_ok));
                    assert!(started.wait().iter().all(Result::is_ok));
                }
                assert!(store.remove(&key(1)).unwrap().is_some());
                assert!(all_of_age(&store, 2, "full") > 0);
                store.close().unwrap();
            });
            assert!(in_time, "{engine}, killed {killed}: a call hangs");
            assert!(fixture.open().recovery().clean);
        }
    }
}
