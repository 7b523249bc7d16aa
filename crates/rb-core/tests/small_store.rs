//! A whole store, small enough for Miri: in memory, on one thread.
//!
//! It is here, and not with the other tests of the store, because those come with compression, which
//! is C and out of Miri's reach.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

use std::sync::Arc;

use rb_core::{
    Background, ClassRequest, FormatOptions, Payload, Put, PutOptions, SeededRandom, Share, Store,
    StoreOptions, format,
};
use rb_testkit::{MemDevice, MemEngine, values};

const SLOTS: u64 = 4;
const LOG_BYTES: u64 = 256 << 10;

fn open(device: &Arc<MemDevice>) -> Store {
    let options = StoreOptions {
        background: Background::Manual,
        buffer_bytes: Some(64 << 10),
        queue_depth: 4,
        ..StoreOptions::default()
    };
    Store::open(Arc::new(MemEngine::new(Arc::clone(device))), options).unwrap()
}

fn value(seed: u64) -> Vec<u8> {
    values::bytes(seed, 1500)
}

#[test]
fn a_small_store_lives_twice() {
    let classes = vec![ClassRequest {
        slot_bytes: 4096,
        share: Share::Slots(SLOTS),
    }];
    let bytes = rb_format::device_bytes_for(&classes, 32, 0, Some(LOG_BYTES)).unwrap();
    let device = MemDevice::new(bytes);
    let options = FormatOptions {
        key_len_max: 32,
        log_bytes: Some(LOG_BYTES),
        random: Arc::new(SeededRandom::new(1)),
        ..FormatOptions::new(Arc::new(MemEngine::new(Arc::clone(&device))), classes)
    };
    format(&options).unwrap();

    let store = open(&device);
    for n in 0..=SLOTS {
        // The last one evicts the first.
        store.put(&[n as u8], &value(n)).unwrap();
    }
    let mut buffer = store.buffer(1500).unwrap();
    buffer.copy_from_slice(&value(77));
    let put = Put {
        payload: Payload::Buffer(buffer),
        ..Put::new(&[3], b"")
    };
    assert!(store.put_many(vec![put], PutOptions::default())[0].is_ok());
    assert!(store.remove(&[2]).unwrap().is_some());
    let got = store.get_many_async(&[&[3], &[2], &[4], &[0]]).wait();
    let found: Vec<_> = got.into_iter().map(Result::unwrap).collect();
    assert!(found[0].as_ref().unwrap() == &value(77)[..]);
    assert!(found[2].as_ref().unwrap() == &value(4)[..]);
    assert!(found[1].is_none() && found[3].is_none());
    store.sync().unwrap();
    store.audit().unwrap();
    drop(store);

    // What a crash leaves, and then what a clean close leaves.
    let device = device.crash();
    for clean in [false, true] {
        let store = open(&device);
        assert_eq!(store.recovery().clean, clean);
        while store.step_validate(8).unwrap() {}
        assert!(store.get(&[3]).unwrap().unwrap() == value(77)[..]);
        assert!(store.get(&[2]).unwrap().is_none());
        store.close().unwrap();
    }
}
