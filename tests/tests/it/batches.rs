//! Tests of batches of any size, and of what happens to their values side by side.

use std::sync::{Arc, Mutex};

use rb_core::{
    Background, ClassRequest, Durability, Error, FormatOptions, Put, PutOptions, Share, format,
};
use rb_io::OpKind;
use rb_testkit::{MemDevice, MemOp, Moment};

use crate::support::{Sim, key, slots_of, value};

/// A batch of values has no size limit, blocking or not. An async put was refused if it needed more than half of the
/// buffers, or more records than one reservation of log space has room for.
#[test]
fn a_batch_of_any_size_is_one_call() {
    let sim = Sim::new(2048);
    for background in [Background::Threads, Background::Manual] {
        let store = sim.open_with(|options| {
            options.background = background;
            options.buffer_bytes = Some(64 << 10);
        });
        for durability in [Durability::Interval, Durability::EachBatch] {
            // Four times the buffers, and two keys that are refused.
            let keys: Vec<_> = (0..64).map(key).collect();
            let values: Vec<_> = (0..64).map(|n| value(n, 3000)).collect();
            let mut puts: Vec<_> = keys
                .iter()
                .zip(&values)
                .map(|(k, v)| Put::new(k, v))
                .collect();
            puts.insert(0, Put::new(b"", b"v"));
            puts.push(Put::new(b"key", b""));
            let options = PutOptions {
                durability: Some(durability),
                ..PutOptions::default()
            };
            let answers = store.put_many_async(puts, options).wait();
            let refused = answers.iter().filter(|answer| answer.is_err()).count();
            assert_eq!((answers.len(), refused), (66, 2), "{answers:?}");
            assert!(answers[0].is_err() && answers[65].is_err());
            if durability == Durability::EachBatch {
                let after = sim.crash();
                let after = after.open();
                for (key, value) in keys.iter().zip(&values) {
                    assert_eq!(after.get(key).unwrap().as_deref(), Some(&value[..]));
                }
            }
            for (key, value) in keys.iter().zip(&values) {
                assert_eq!(store.get(key).unwrap().as_deref(), Some(&value[..]));
            }
        }
        // A get returns all values at once, so it has a limit.
        let keys: Vec<_> = (0..64).map(key).collect();
        let asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let refused = store.get_many(&asked).into_iter().next().unwrap();
        assert!(
            matches!(refused, Err(Error::BatchTooLarge { limit: 65536, .. })),
            "{refused:?}"
        );
        store.audit().unwrap();
    }
    // The ring of this store takes the records of some thousands of keys.
    let sim = Sim::with(8192, 64, Some(256 << 10));
    let store = sim.open_with(|options| {
        options.background = Background::Threads;
        options.buffer_bytes = Some(128 << 20);
    });
    let keys: Vec<_> = (0..7000).map(key).collect();
    let puts = keys.iter().map(|key| Put::new(key, b"v")).collect();
    let answers = store.put_many_async(puts, PutOptions::default()).wait();
    let failed = answers.iter().find(|answer| answer.is_err());
    assert!(failed.is_none(), "{failed:?}");
    assert!(keys.iter().all(|key| store.contains(key)));
}

/// A value is written while the next one is checksummed: no write started before the last checksum of its batch was made.
#[test]
fn writes_begin_before_the_last_value_is_checksummed() {
    const MIB: u64 = 1 << 20;
    let classes = vec![ClassRequest {
        slot_bytes: MIB,
        share: Share::Slots(16),
    }];
    let bytes = rb_format::device_bytes_for(&classes, 64, 0, None).unwrap();
    let sim = Sim::on(MemDevice::new(bytes));
    format(&FormatOptions::new(sim.engine(), classes)).unwrap();
    let store = sim.open_with(|options| options.buffer_bytes = Some(32 << 20));
    let slots = slots_of(&store);
    let together = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&together);
    sim.device.observe(move |moment, operations| {
        let of_slots =
            |operation: &&MemOp| operation.op == OpKind::Write && slots.contains(&operation.offset);
        let writes = operations.iter().filter(of_slots).count();
        if moment == Moment::Before && writes > 0 {
            seen.lock().unwrap().push(writes);
        }
    });
    let keys: Vec<_> = (0..8).map(key).collect();
    let bytes = value(1, MIB as usize);
    let puts = keys.iter().map(|key| Put::new(key, &bytes)).collect();
    let answers = store.put_many(puts, PutOptions::default());
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let together = together.lock().unwrap().clone();
    assert!(together.len() >= 8, "{together:?}");
    for key in &keys {
        assert_eq!(store.get(key).unwrap().as_deref(), Some(&bytes[..]));
    }
}
