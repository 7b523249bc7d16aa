//! A cache in a plain file: batches, prefixes, metadata, pins, eviction, and a restart.
//!
//! `cargo run -p rb-examples --bin plain_cache`
#![expect(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use rb_core::{
    ClassRequest, FormatOptions, Put, PutOptions, PutOutcome, Share, Store, StoreOptions,
};

const SLOTS: u64 = 64;
const BLOCK: usize = 60_000;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let classes = vec![ClassRequest {
        slot_bytes: 64 << 10,
        share: Share::Slots(SLOTS),
    }];
    let format = FormatOptions {
        metadata_len_max: 16,
        ..FormatOptions::new(dir.path().join("cache"), classes)
    };
    let store = Store::open_or_create(&format, StoreOptions::default())?;
    println!("engine {}, {} slots", store.engine_name(), SLOTS);

    // One batch is one submission; each key has its own result.
    let keys: Vec<Vec<u8>> = (0..8).map(|n| format!("prompt-a/{n}").into()).collect();
    let puts = keys.iter().zip(0..).map(|(key, n)| Put {
        payload: rb_core::Payload::Owned(vec![n; BLOCK]),
        ..Put::new(key, &[]).with_metadata(b"bf16")
    });
    for outcome in store.put_many(puts.collect(), PutOptions::default()) {
        assert_eq!(outcome?, PutOutcome::Inserted);
    }

    // A prefix is looked up in memory, without I/O.
    let mut wanted: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    wanted.push(b"prompt-a/8");
    let prefix = store.longest_prefix(&wanted);
    println!("{prefix} of {} blocks are cached", wanted.len());
    assert_eq!(prefix, 8);
    for (value, n) in store.get_many(&wanted[..prefix]).into_iter().zip(0..) {
        let value = value?.ok_or("the prefix is cached")?;
        assert_eq!(
            (&value[..], value.metadata()),
            (&[n; BLOCK][..], &b"bf16"[..])
        );
    }

    // A full store evicts what was used longest ago, and nothing that is pinned.
    let pins = store.lookup_and_pin(&wanted[..1]);
    for n in 0..SLOTS {
        store.put(format!("prompt-b/{n}").as_bytes(), &[0; BLOCK])?;
    }
    println!("{} entries evicted", store.stats().index.evictions);
    assert_eq!(store.stats().index.evictions, 8);
    assert!(store.contains(wanted[0]));
    assert!(wanted[1..].iter().all(|key| !store.contains(key)));
    store.unpin(pins.into_iter().flatten().collect());

    // After `sync` a value survives a crash, after `close` everything survives the restart.
    store.sync()?;
    store.close()?;
    let store = Store::open_or_create(&format, StoreOptions::default())?;
    let report = store.recovery();
    println!("{} entries after {:?}", report.entries, report.total_time);
    assert!(report.clean);
    assert_eq!(report.entries, SLOTS);
    assert!(store.get(wanted[0])?.is_some());
    Ok(store.close()?)
}
