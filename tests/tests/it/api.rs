//! Tests of the operations, on both engines.

use rb_core::{Payload, Put, PutMode, PutOptions, PutOutcome};

use crate::support::{FileFixture, KIB, Sim, engines, key, value};

#[test]
fn values_come_back_byte_for_byte_after_put_and_after_restart() {
    for engine in engines() {
        let fixture = FileFixture::new(64 * KIB as u64, 64).on(engine);
        let store = fixture.open();
        let sizes = [1, 511, 4096, 4097, 50_000, 64 * KIB];
        for (n, len) in (0..).zip(sizes) {
            assert_eq!(
                store.put(&key(n), &value(n, len)).unwrap(),
                PutOutcome::Inserted
            );
        }
        let mut store = Some(store);
        for round in 0..2 {
            if round == 1 {
                store.take().unwrap().close().unwrap();
                store = Some(fixture.open());
            }
            let store = store.as_ref().unwrap();
            for (n, len) in (0..).zip(sizes) {
                let found = store.get(&key(n)).unwrap().expect("it was put");
                assert!(
                    found == value(n, len)[..],
                    "{engine} round {round}: value {n} of {len} bytes"
                );
            }
            assert!(store.get(b"never put").unwrap().is_none());
            store.audit().unwrap();
        }
    }
}

#[test]
fn batches_return_results_key_by_key() {
    for engine in engines() {
        let fixture = FileFixture::new(64 * KIB as u64, 64).on(engine);
        let store = fixture.open();
        let values: Vec<_> = (0..20).map(|n| value(n, 30_000 + n as usize)).collect();
        let keys: Vec<_> = (0..20).map(key).collect();
        let puts = keys
            .iter()
            .zip(&values)
            .map(|(k, v)| Put::new(k, v))
            .collect();
        assert!(
            store
                .put_many(puts, PutOptions::default())
                .iter()
                .all(|r| matches!(r, Ok(PutOutcome::Inserted)))
        );

        let mut asked: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        asked.insert(7, b"missing");
        let found = store.get_many(&asked);
        assert!(found[7].as_ref().unwrap().is_none());
        for (n, lookup) in found.iter().enumerate().filter(|(at, _)| *at != 7) {
            let n = if n > 7 { n - 1 } else { n };
            assert!(*lookup.as_ref().unwrap().as_ref().unwrap() == values[n][..]);
        }
        assert_eq!(store.longest_prefix(&asked), 7);

        let mut memory = vec![vec![0; 64 * KIB]; asked.len()];
        let mut outputs: Vec<&mut [u8]> = memory.iter_mut().map(Vec::as_mut_slice).collect();
        let lengths = store.get_many_into(&asked, &mut outputs);
        assert_eq!(*lengths[7].as_ref().unwrap(), None);
        assert_eq!(*lengths[0].as_ref().unwrap(), Some(30_000));
        assert_eq!(memory[0][..30_000], values[0]);

        let removed = store.remove_many(&asked);
        assert_eq!(removed.iter().flatten().flatten().count(), 20);
        assert_eq!(store.contains_many(&asked), vec![false; 21]);
        store.audit().unwrap();
    }
}

#[test]
fn replace_and_keep_do_what_they_say() {
    let fixture = FileFixture::new(16 * KIB as u64, 8);
    let store = fixture.open();
    let keep = PutOptions {
        mode: PutMode::KeepExisting,
        ..PutOptions::default()
    };
    assert_eq!(store.put(b"k", b"one").unwrap(), PutOutcome::Inserted);
    assert_eq!(
        *store.put_many(vec![Put::new(b"k", b"two")], keep)[0]
            .as_ref()
            .unwrap(),
        PutOutcome::Existed
    );
    assert!(store.get(b"k").unwrap().unwrap() == b"one"[..]);
    assert_eq!(
        store.put(b"k", b"three").unwrap(),
        PutOutcome::Replaced { len: 3 }
    );
    assert!(store.get(b"k").unwrap().unwrap() == b"three"[..]);
    // Within one batch the last put wins if they replace, the first if they keep.
    let twice = || vec![Put::new(b"d", b"first"), Put::new(b"d", b"last")];
    let answers = store.put_many(twice(), PutOptions::default());
    assert_eq!(*answers[0].as_ref().unwrap(), PutOutcome::Superseded);
    assert!(store.get(b"d").unwrap().unwrap() == b"last"[..]);
    store.remove(b"d").unwrap();
    let answers = store.put_many(twice(), keep);
    assert_eq!(*answers[1].as_ref().unwrap(), PutOutcome::Existed);
    assert!(store.get(b"d").unwrap().unwrap() == b"first"[..]);
    store.audit().unwrap();
}

#[test]
fn memory_of_the_store_is_put_without_a_copy() {
    let fixture = FileFixture::new(16 * KIB as u64, 8);
    let store = fixture.open();
    let mut buffer = store.buffer(10_000).unwrap();
    buffer.copy_from_slice(&value(5, 10_000));
    let put = Put {
        payload: Payload::Buffer(buffer),
        ..Put::new(b"k", &[])
    };
    store
        .put_many(vec![put], PutOptions::default())
        .remove(0)
        .unwrap();
    assert_eq!(store.stats().bytes_copied, 0);
    let found = store.get(b"k").unwrap().unwrap();
    assert!(found == value(5, 10_000)[..]);
    // The memory of a value can be put again under another key.
    let again = Put {
        payload: Payload::Buffer(found.into_buffer()),
        ..Put::new(b"l", &[])
    };
    store
        .put_many(vec![again], PutOptions::default())
        .remove(0)
        .unwrap();
    assert!(store.get(b"l").unwrap().unwrap() == value(5, 10_000)[..]);
    assert_eq!(store.stats().bytes_copied, 0);
}

#[test]
fn async_operations_can_be_waited_on_and_awaited() {
    for engine in engines() {
        let fixture = FileFixture::new(64 * KIB as u64, 64).on(engine);
        let store = fixture.open();
        let values: Vec<_> = (0..40).map(|n| value(n, 40_000)).collect();
        let keys: Vec<_> = (0..40).map(key).collect();
        let puts: Vec<_> = (0..40)
            .map(|n| {
                store.put_many_async(vec![Put::new(&keys[n], &values[n])], PutOptions::default())
            })
            .collect();
        for put in puts {
            assert_eq!(*put.wait()[0].as_ref().unwrap(), PutOutcome::Inserted);
        }
        store.sync_async().wait().unwrap();
        let gets: Vec<_> = (0..40).map(|n| store.get_many_async(&[&keys[n]])).collect();
        for (n, get) in gets.into_iter().enumerate() {
            let found = block_on(get).remove(0).unwrap().unwrap();
            assert!(found == values[n][..]);
        }
        store.close().unwrap();
        assert!(
            store.get_many_async(&[&keys[0]]).wait()[0].is_err(),
            "a closed store returns an error"
        );
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(answer) => return answer,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// A batch was grouped by shard before its slots were taken: when slots were short, keys in its middle got none, and
/// neighbours in the batch were scattered over the device. The blocks of a prompt are of little use without those
/// before them.
#[test]
fn slots_go_to_the_keys_of_a_batch_in_its_order() {
    let sim = Sim::new(8);
    let store = sim.open_with(|options| options.shards = Some(4));
    let keys: Vec<Vec<u8>> = (0..12).map(key).collect();
    let puts = keys.iter().map(|key| Put::new(key, b"v")).collect();
    let stored: Vec<bool> = store
        .put_many(puts, PutOptions::default())
        .iter()
        .map(Result::is_ok)
        .collect();
    assert_eq!(stored, [vec![true; 8], vec![false; 4]].concat());
    let mut slots = std::collections::BTreeMap::new();
    store.for_each(|info| {
        slots.insert(info.key.clone(), info.slot);
        true
    });
    let of = |key: &Vec<u8>| slots[&key.clone().into_boxed_slice()];
    let in_order: Vec<u32> = keys[..8].iter().map(of).collect();
    assert!(in_order.is_sorted(), "{in_order:?}");
}
