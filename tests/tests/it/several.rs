//! Tests of values that take several slots: all of them or none, in every case.

use std::cell::Cell;
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use rb_core::{
    AuditOptions, AuditState, ClassRequest, Error, Event, Events, ManualClock, OnLostMetadata,
    Payload, Put, PutOptions, Share, Store, Validate, audit,
};
use rb_format::{FORMAT_BLOCK, Generation, SlotHeader, key_hash};

use crate::support::{FileFixture, Sim, Watch, base_headers, corrupt, engines, key, value, zero};

const SLOT: usize = 16 << 10;

/// Lengths around the boundaries of slots.
const LENGTHS: [usize; 10] = [
    1,
    SLOT - 1,
    SLOT,
    SLOT + 1,
    2 * SLOT - 4096,
    2 * SLOT,
    2 * SLOT + 1,
    5 * SLOT + 777,
    9 * SLOT,
    30 * SLOT + 4095,
];

fn check(store: &Store, lengths: &[usize]) {
    for (n, &len) in (0..).zip(lengths) {
        let found = store.get(&key(n)).unwrap();
        assert!(
            found.is_some_and(|found| found == value(n, len)[..]),
            "{len} bytes"
        );
    }
    store.audit().unwrap();
}

/// The slots of a value, the first one first.
fn slots_of(fixture: &FileFixture, wanted: u64) -> Vec<u32> {
    let store = fixture.open_with(|options| options.read_only = true);
    let mut slots = Vec::new();
    store.for_each(|info| {
        if *info.key == key(wanted) {
            slots = std::iter::once(info.slot).chain(info.more_slots).collect();
        }
        true
    });
    slots
}

fn deep(fixture: &FileFixture) -> rb_core::AuditReport {
    let options = AuditOptions {
        deep: true,
        ..AuditOptions::default()
    };
    audit(fixture.path(), &options).unwrap()
}

#[test]
fn values_of_all_lengths_survive_a_restart_on_every_engine() {
    for engine in engines() {
        let fixture = FileFixture::new(SLOT as u64, 100).on(engine);
        let store = fixture.open();
        for (n, &len) in (0..).zip(&LENGTHS) {
            store.put(&key(n), &value(n, len)).unwrap();
        }
        check(&store, &LENGTHS);
        store.close().unwrap();
        drop(store);
        // Clean: from the base. Then from the log, by a crash after a sync.
        let store = fixture.open();
        check(&store, &LENGTHS);
        for (n, &len) in (0..).zip(&LENGTHS) {
            store.put(&key(n), &value(n, len)).unwrap();
        }
        store.sync().unwrap();
        let crashed = fixture.image();
        check(&crashed.open(), &LENGTHS);
        drop(store);
        let report = deep(&crashed);
        assert_eq!(report.state, AuditState::Clean, "{report:?}");
        let validated = crashed.open_with(|options| options.validate = Validate::Eager);
        check(&validated, &LENGTHS);
        assert_eq!(validated.stats().dropped, 0);
    }
}

#[test]
fn batches_buffers_and_async_calls_take_values_of_several_slots() {
    let fixture = FileFixture::new(SLOT as u64, 100);
    let store = fixture.open();
    let values: Vec<_> = (0..).zip(LENGTHS).map(|(n, len)| value(n, len)).collect();
    let keys: Vec<_> = (0..values.len() as u64).map(key).collect();
    let puts = keys.iter().zip(&values).map(|(k, v)| Put::new(k, v));
    let outcomes = store.put_many(puts.collect(), PutOptions::default());
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    check(&store, &LENGTHS);

    let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mut memory: Vec<Vec<u8>> = LENGTHS.iter().map(|&len| vec![0; len]).collect();
    let mut outputs: Vec<&mut [u8]> = memory.iter_mut().map(Vec::as_mut_slice).collect();
    let lengths = store.get_many_into(&asked, &mut outputs);
    assert!(
        lengths
            .into_iter()
            .zip(LENGTHS)
            .all(|(found, len)| found.unwrap() == Some(len))
    );
    assert!(memory == values);

    let mut buffer = store.buffer(7 * SLOT + 5).unwrap();
    buffer.copy_from_slice(&value(50, 7 * SLOT + 5));
    let put = Put {
        payload: Payload::Buffer(buffer),
        ..Put::new(b"buffer", &[])
    };
    let copied = store.stats().bytes_copied;
    store
        .put_many(vec![put], PutOptions::default())
        .remove(0)
        .unwrap();
    assert_eq!(store.stats().bytes_copied, copied);
    let again = store.get(b"buffer").unwrap().unwrap();
    assert!(again == value(50, 7 * SLOT + 5)[..]);
    let put = Put {
        payload: Payload::Buffer(again.into_buffer()),
        ..Put::new(b"again", &[])
    };
    store
        .put_many(vec![put], PutOptions::default())
        .remove(0)
        .unwrap();
    assert!(store.get(b"again").unwrap().unwrap() == value(50, 7 * SLOT + 5)[..]);

    let puts = keys.iter().zip(&values).map(|(k, v)| Put::new(k, v));
    let answers = store
        .put_many_async(puts.collect(), PutOptions::default())
        .wait();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let found = store.get_many_async(&asked).wait();
    assert!(
        found
            .into_iter()
            .zip(&values)
            .all(|(found, value)| found.unwrap().unwrap() == value[..])
    );
    store.audit().unwrap();
}

/// Values larger than all slots together, or than 256 slots, are refused with the longest length.
#[test]
fn a_value_that_no_slots_hold_is_refused() {
    for (slots, most) in [(10, 10), (300, 256)] {
        let fixture = FileFixture::new(4096, slots);
        let store = fixture.open();
        store.put(b"most", &vec![1; most * 4096]).unwrap();
        let len = most * 4096 + 1;
        let refused = store.put(b"more", &vec![1; len]);
        match refused {
            Err(Error::ValueLength { len: found, max }) => {
                assert_eq!((found, max), (len, most * 4096));
            }
            other => panic!("{other:?}"),
        }
        store.audit().unwrap();
    }
}

/// A full store of values of mixed sizes keeps working, and the observer hears of every eviction.
#[test]
fn a_full_store_of_mixed_sizes_evicts_whole_values() {
    let fixture = FileFixture::new(SLOT as u64, 64);
    let watch = Watch::new();
    let store = fixture.open_with(|options| options.events = Some(watch.clone()));
    let (mut live, mut seed) = (HashMap::new(), 7_u64);
    for n in 0..600 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let len = 1 + (seed >> 33) as usize % (12 * SLOT);
        store.put(&key(n), &value(n, len)).unwrap();
        live.insert(n, len);
        for line in watch.take_lines() {
            let evicted = line.strip_prefix("evicted key-").unwrap().parse::<u64>();
            assert!(live.remove(&evicted.unwrap()).is_some(), "{line}");
        }
    }
    assert_eq!(store.stats().index.entries, live.len() as u64);
    for (&n, &len) in &live {
        assert!(
            store.get(&key(n)).unwrap().unwrap() == value(n, len)[..],
            "{n}"
        );
    }
    let class = store.stats().index.classes[0];
    assert_eq!((class.reserved, class.retired), (0, 0));
    store.audit().unwrap();
    store.close().unwrap();
    drop(store);
    let report = deep(&fixture);
    assert_eq!(report.state, AuditState::Clean, "{report:?}");
    let store = fixture.open();
    assert_eq!(store.stats().index.entries, live.len() as u64);
}

/// Damage in the third slot: a miss that frees all slots of the value, and no other.
#[test]
fn a_rotten_slot_is_a_miss_that_frees_all() {
    for header in [false, true] {
        let fixture = FileFixture::new(SLOT as u64, 32);
        let store = fixture.open();
        store.put(&key(0), &value(0, 5 * SLOT)).unwrap();
        store.put(&key(1), &value(1, SLOT)).unwrap();
        store.close().unwrap();
        let third = {
            let geometry = store.geometry().clone();
            drop(store);
            let third = slots_of(&fixture, 0)[2];
            match header {
                true => geometry.slot_offset(third).unwrap() + 44,
                false => geometry.payload_offset(third).unwrap() + 99,
            }
        };
        corrupt(&fixture, third, 1);
        let report = deep(&fixture);
        assert_eq!(report.state, AuditState::Damaged, "{report:?}");
        assert_eq!(report.unverified, 1);
        // The payload is whole if only the header of a further slot is damaged: a read does not
        // need it, the validator does.
        let store = fixture.open_with(|options| {
            options.validate = if header {
                Validate::Eager
            } else {
                Validate::Off
            };
        });
        assert!(store.get(&key(0)).unwrap().is_none());
        assert!(store.get(&key(1)).unwrap().is_some());
        assert_eq!(store.stats().dropped, 1);
        assert_eq!(store.stats().index.classes[0].free, 31);
        store.audit().unwrap();
    }
}

/// A slot that cannot be read is an error for its key only, and no entry is dropped.
#[test]
fn an_unreadable_slot_is_an_error_for_its_key() {
    let sim = Sim::new(64);
    let store = sim.open();
    store.put(&key(0), &value(0, 5 * 4096)).unwrap();
    store.put(&key(1), &value(1, 100)).unwrap();
    let mut third = 0;
    store.for_each(|info| {
        if *info.key == key(0) {
            third = store.geometry().payload_offset(info.more_slots[1]).unwrap();
        }
        true
    });
    sim.device
        .fail_always(rb_io::OpKind::Read, third..third + 4096, 5);
    let keys = [key(0), key(1)];
    let found = store.get_many(&[&keys[0], &keys[1]]);
    assert!(matches!(found[0], Err(Error::Io(_))), "{found:?}");
    assert!(found[1].as_ref().unwrap().is_some());
    sim.device.heal();
    assert!(store.get(&key(0)).unwrap().unwrap() == value(0, 5 * 4096)[..]);
}

/// A write that fails makes only the slot at fault bad.
#[test]
fn a_failed_write_blames_the_slot_that_failed() {
    let sim = Sim::new(16);
    let clock = Arc::new(ManualClock::default());
    let store = sim.open_with(|options| options.clock = clock.clone());
    let at = store.geometry().slot_offset(3).unwrap();
    sim.device
        .fail_always(rb_io::OpKind::Write, at..at + 4096, 5);
    let mut round = 0;
    while store.stats().index.classes[0].bad == 0 {
        round += 1;
        assert!(round < 20, "slot 3 must become bad");
        drop(store.put(&key(0), &value(0, 12 * 4096)));
        store.sync().unwrap();
        clock.advance(Duration::from_secs(11));
    }
    store.put(&key(0), &value(0, 15 * 4096)).unwrap();
    let class = &store.stats().index.classes[0];
    assert_eq!((class.bad, class.live, class.free), (1, 15, 0));
    store.audit().unwrap();
}

/// After metadata was lost, a value is found by its headers, all of them, and is not if a later put
/// took one of its slots.
#[test]
fn a_scan_finds_whole_values_only() {
    let fixture = FileFixture::new(SLOT as u64, 16);
    let store = fixture.open();
    store.put(&key(0), &value(0, 5 * SLOT)).unwrap();
    store.put(&key(1), &value(1, 6 * SLOT)).unwrap();
    // Evicts key 0, the least recently used, and takes three of its slots.
    store.put(&key(2), &value(2, 8 * SLOT)).unwrap();
    store.close().unwrap();
    drop(store);
    lose_metadata(&fixture);
    let store = fixture.open();
    assert_eq!(store.stats().index.entries, 2);
    assert!(store.get(&key(0)).unwrap().is_none());
    for (n, slots) in [(1, 6), (2, 8)] {
        assert!(store.get(&key(n)).unwrap().unwrap() == value(n, slots * SLOT)[..]);
    }
    store.audit().unwrap();
    store.close().unwrap();
    drop(store);
    // Without the header of one slot its value looks like a torn one.
    let at = {
        let store = fixture.open_with(|options| options.read_only = true);
        let geometry = store.geometry().clone();
        drop(store);
        geometry.slot_offset(slots_of(&fixture, 1)[4]).unwrap()
    };
    zero(&fixture, at, FORMAT_BLOCK);
    lose_metadata(&fixture);
    let store = fixture.open();
    assert!(store.get(&key(1)).unwrap().is_none());
    assert!(store.get(&key(2)).unwrap().is_some());
}

/// The payload of a value may look like anything, also like the headers of other values at every
/// block. No payload lies where a scan looks for a header.
#[test]
fn a_payload_full_of_headers_forges_nothing() {
    let fixture = FileFixture::new(SLOT as u64, 16);
    let store = fixture.open();
    let identity = store.superblock().identity;
    let mut forged = Vec::new();
    for block in 0..14 * SLOT / FORMAT_BLOCK {
        let header = SlotHeader {
            generation: Generation::new(1000, 1 + block as u64).unwrap(),
            slot: block as u32 % 16,
            more: Box::default(),
            key_hash: key_hash(&identity.uuid, b"forged"),
            payload_len: 100,
            payload_checksum: 1,
            placement: 0,
            policy: 0,
            expiry: 0,
            key: (*b"forged").into(),
            metadata: Box::default(),
        };
        let mut bytes = [0; FORMAT_BLOCK];
        header.encode_into(&identity, &mut bytes);
        forged.extend(bytes);
    }
    store.put(b"carrier", &forged).unwrap();
    store.remove(b"carrier").unwrap();
    store.put(&key(1), &value(1, 2 * SLOT)).unwrap();
    store.close().unwrap();
    drop(store);
    lose_metadata(&fixture);
    let store = fixture.open_with(|options| options.on_lost_metadata = OnLostMetadata::Scan);
    let mut keys = Vec::new();
    store.for_each(|info| {
        keys.push(info.key.to_vec());
        true
    });
    assert!(!keys.contains(&b"forged".to_vec()), "{keys:?}");
    assert!(store.get(b"forged").unwrap().is_none());
    assert!(store.get(&key(1)).unwrap().unwrap() == value(1, 2 * SLOT)[..]);
    store.audit().unwrap();
}

fn lose_metadata(fixture: &FileFixture) {
    let superblock = {
        let file = std::fs::File::open(fixture.path()).unwrap();
        let mut block = [0; FORMAT_BLOCK];
        file.read_exact_at(&mut block, 0).unwrap();
        rb_format::Superblock::decode(&block).unwrap()
    };
    for offset in base_headers(&superblock) {
        zero(fixture, offset, FORMAT_BLOCK);
    }
    for ring in superblock.log_rings() {
        zero(fixture, ring.offset, ring.bytes as usize);
    }
}

/// Two puts of 200 slots each on a store of 256. Each gets all its slots or `NoSpace`, none is left
/// behind, and both make progress.
#[test]
fn two_large_puts_at_once_never_share_out_the_slots() {
    let fixture = FileFixture::with(
        vec![ClassRequest {
            slot_bytes: 4096,
            share: Share::Slots(256),
        }],
        |_| {},
    );
    let store = fixture.open_with(|options| options.buffer_bytes = Some(8 << 20));
    let rounds = if cfg!(debug_assertions) { 500 } else { 5000 };
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let store = &store;
            scope.spawn(move || {
                let bytes = value(thread, 200 * 4096);
                for round in 0..rounds {
                    let start = Instant::now();
                    while let Err(error) = store.put(&key(thread), &bytes) {
                        assert!(
                            matches!(error, Error::NoSpace { slots: 200, .. }),
                            "round {round}: {error}"
                        );
                        let waited = start.elapsed();
                        assert!(waited < Duration::from_secs(30), "thread {thread} starves");
                        // About as long as the other one's put takes.
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
            });
        }
    });
    let class = store.stats().index.classes[0];
    assert_eq!((class.reserved, class.retired), (0, 0), "{class:?}");
    store.audit().unwrap();
}

/// A put that cannot have all its slots evicts nothing.
#[test]
fn no_space_evicts_nothing() {
    let fixture = FileFixture::new(4096, 64);
    let watch = Watch::new();
    let store = fixture.open_with(|options| options.events = Some(watch.clone()));
    for n in 0..64 {
        store.put(&key(n), &value(n, 100)).unwrap();
    }
    let pinned: Vec<_> = (0..10).map(key).collect();
    let pinned: Vec<&[u8]> = pinned.iter().map(Vec::as_slice).collect();
    let pins = store.lookup_and_pin(&pinned);
    assert!(pins.iter().all(Option::is_some));
    let refused = store.put(b"large", &vec![1; 55 * 4096]);
    assert!(
        matches!(refused, Err(Error::NoSpace { slots: 55, .. })),
        "{refused:?}"
    );
    assert!(watch.take_lines().is_empty());
    store.put(b"large", &vec![1; 54 * 4096]).unwrap();
    assert_eq!(watch.take_lines().len(), 54);
    drop(pins);
    store.audit().unwrap();
}

thread_local! {
    /// Number of evictions that the observer was notified of in this thread.
    static EVICTED: Cell<u64> = const { Cell::new(0) };
}

/// Counts evictions by thread: the put that evicts calls it in its own.
#[derive(Debug)]
struct CountsEvictions;

impl Events for CountsEvictions {
    fn event(&self, event: &Event<'_>) {
        if let Event::Evicted { .. } = event {
            EVICTED.set(EVICTED.get() + 1);
        }
    }
}

/// Two puts at once on a store full of small values, which has enough for either and not for both.
/// If they evicted together, each could get half, fail, and have evicted everything for nothing. That
/// happened to one of them, too: a shard showed the slots of a value just put before it showed the
/// value as its victim, so the other put counted on slots that it then did not find.
#[test]
fn of_two_puts_at_once_at_least_one_gets_all_and_the_other_evicts_nothing_in_vain() {
    const SMALL: u64 = 64;
    let fixture = FileFixture::new(4096, SMALL);
    let store = fixture.open_with(|options| options.events = Some(Arc::new(CountsEvictions)));
    let large = value(1000, 40 * 4096);
    let rounds = if cfg!(debug_assertions) { 500 } else { 3000 };
    for round in 0..rounds {
        let small: Vec<_> = (0..SMALL).map(|n| (key(n), value(n, 100))).collect();
        let puts = small.iter().map(|(k, v)| Put::new(k, v)).collect();
        let stored = store.put_many(puts, PutOptions::default());
        assert!(stored.iter().all(Result::is_ok));
        let barrier = Barrier::new(2);
        let one = |number: u64| {
            barrier.wait();
            let before = EVICTED.get();
            let stored = store.put(&key(1000 + number), &large);
            let evicted = EVICTED.get() - before;
            match stored {
                Ok(_) => true,
                Err(Error::NoSpace { slots: 40, .. }) => {
                    assert_eq!(evicted, 0, "round {round}: evicted in vain");
                    false
                }
                Err(other) => panic!("round {round}: {other}"),
            }
        };
        let stored = std::thread::scope(|scope| {
            let other = scope.spawn(|| one(1));
            let mine = one(0);
            mine | other.join().unwrap()
        });
        assert!(stored, "round {round}: neither got its slots");
    }
    store.audit().unwrap();
}
