//! Tests of what a host accounts with: lengths and classes of what disappears.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rb_core::{ClassRequest, DropReason, Event, Events, Share};

use crate::support::{FileFixture, KIB, corrupt, key, value};

/// Collects what the store evicts and drops: key, generation, length, class.
#[derive(Debug, Default)]
struct Gone(Mutex<Vec<(Vec<u8>, u64, u32, u8)>>);

impl Events for Gone {
    fn event(&self, event: &Event<'_>) {
        let gone = match *event {
            Event::Evicted {
                key,
                generation,
                len,
                class,
            }
            | Event::Dropped {
                key,
                generation,
                len,
                class,
                reason: DropReason::FailedVerification,
            } => (key.to_vec(), generation, len, class),
            ref other => panic!("{other:?}"),
        };
        self.0.lock().unwrap().push(gone);
    }
}

/// A store of 12 slots of 4 KiB and 12 of 64 KiB.
fn two_classes() -> FileFixture {
    let class = |slot_bytes, slots| ClassRequest {
        slot_bytes,
        share: Share::Slots(slots),
    };
    FileFixture::with(
        vec![class(4 * KIB as u64, 12), class(64 * KIB as u64, 12)],
        |_| {},
    )
}

#[test]
fn evictions_say_how_much_is_gone() {
    let fixture = two_classes();
    let gone = Arc::new(Gone::default());
    let store = fixture.open_with(|options| options.events = Some(gone.clone()));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for n in (0..200).map(|n| n * 4 + thread) {
                    let len = match n % 3 {
                        0 => 5000 + n as usize,
                        _ => 100 + n as usize,
                    };
                    store.put(&key(n), &value(n, len)).unwrap();
                }
            });
        }
    });
    let mut left = HashMap::new();
    store.for_each(|entry| left.insert(entry.key.to_vec(), entry.len).is_none());
    let gone = gone.0.lock().unwrap();
    assert_eq!(gone.len() + left.len(), 800, "each key was put once");
    for (name, generation, len, class) in &*gone {
        let n: u64 = std::str::from_utf8(&name[4..]).unwrap().parse().unwrap();
        let put = match n % 3 {
            0 => 5000 + n as u32,
            _ => 100 + n as u32,
        };
        assert!(*generation > 0 && !left.contains_key(name));
        assert_eq!((*len, *class), (put, u8::from(n % 3 == 0)), "key {n}");
    }
}

#[test]
fn a_dropped_entry_says_how_much_is_gone() {
    let fixture = two_classes();
    let store = fixture.open();
    store.put(&key(0), &value(0, 3000)).unwrap();
    store.put(&key(1), &value(1, 30_000)).unwrap();
    let mut put = Vec::new();
    store.for_each(|entry| {
        let offset = store.geometry().slot_offset(entry.slot).unwrap();
        put.push((entry.key.to_vec(), entry.generation, entry.len, entry.class));
        corrupt(&fixture, offset + 4096, 8);
        true
    });
    store.close().unwrap();
    drop(store);
    let gone = Arc::new(Gone::default());
    let store = fixture.open_with(|options| options.events = Some(gone.clone()));
    for (name, ..) in &put {
        assert!(store.get(name).unwrap().is_none());
    }
    put.sort();
    assert_eq!((put[0].2, put[0].3), (3000, 0));
    assert_eq!((put[1].2, put[1].3), (30_000, 1));
    let mut gone = gone.0.lock().unwrap().clone();
    gone.sort();
    assert_eq!(gone, put);
}
