//! Tests of the store on a vhost-user disk: the same bytes as on the image behind it, through every engine.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rb_core::{
    ClassRequest, EngineKind, FormatError, FormatOptions, Share, Store, StoreOptions, Validate,
    format,
};
use rb_testkit::StorageDaemon;

use crate::support::{KIB, engines, key, value};

const DISK: u64 = 48 << 20;

fn open(path: &Path, engine: EngineKind, validate: Validate) -> Store {
    let options = StoreOptions {
        engine,
        validate,
        buffer_bytes: Some(16 << 20),
        queue_depth: 64,
        ..StoreOptions::default()
    };
    Store::open(path, options).unwrap()
}

/// Puts, replaces and removes; returns what must be there afterwards.
fn change(store: &Store, seed: u64) -> BTreeMap<u64, Vec<u8>> {
    let lengths = [1, 700, 4096, 30 * KIB, 64 * KIB];
    let mut expected = BTreeMap::new();
    for n in 0..150 {
        let length = lengths[n as usize % lengths.len()];
        let bytes = value(seed + n, length);
        store.put(&key(n % 120), &bytes).unwrap();
        expected.insert(n % 120, bytes);
    }
    for n in (0..120).step_by(7) {
        store.remove(&key(n)).unwrap();
        expected.remove(&n);
    }
    expected
}

/// Checks that everything is there, verified before the opening ended, and nothing else.
fn check(path: &Path, engine: EngineKind, expected: &BTreeMap<u64, Vec<u8>>) {
    let store = open(path, engine, Validate::Eager);
    assert_eq!(
        store.recovery().validated,
        expected.len() as u64,
        "{engine}"
    );
    for n in 0..120 {
        let found = store.get(&key(n)).unwrap();
        let found = found.as_ref().map(AsRef::as_ref);
        assert_eq!(
            found,
            expected.get(&n).map(Vec::as_slice),
            "{engine}, key {n}"
        );
    }
    store.close().unwrap();
}

#[test]
fn a_store_is_the_same_through_the_server_and_on_its_image() {
    const WHAT: &str = "a store on a vhost-user disk";
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(DISK).unwrap();
    image.as_file().write_all_at(b"mine", DISK / 2).unwrap();
    for block in [512, 4096] {
        let Some(server) = StorageDaemon::serve(WHAT, image.path(), block) else {
            return;
        };
        let socket = server.socket();
        let classes = vec![ClassRequest {
            slot_bytes: 64 * KIB as u64,
            share: Share::Rest,
        }];
        let mut options = FormatOptions::new(socket, classes);
        let refused = format(&options).unwrap_err();
        assert!(matches!(refused, FormatError::Consent { .. }), "{refused}");
        options.consent = true;
        format(&options).unwrap();

        let store = open(socket, EngineKind::Auto, Validate::Background);
        assert_eq!(store.engine_name(), "libblkio");
        let expected = change(&store, u64::from(block));
        let queues = store.stats().queues;
        assert!(queues.fixed_parts > 0, "values go without a copy");
        store.close().unwrap();
        // The server has one client at a time, and this is one as long as it lives.
        drop(store);
        check(socket, EngineKind::Libblkio, &expected);
        drop(server);

        // The image by itself, also by libblkio's other driver; then back through a server.
        for engine in engines().into_iter().chain([EngineKind::Libblkio]) {
            check(image.path(), engine, &expected);
        }
        let store = open(image.path(), EngineKind::Posix, Validate::Background);
        let expected = change(&store, 1000);
        store.close().unwrap();
        drop(store);
        let Some(server) = StorageDaemon::serve(WHAT, image.path(), block) else {
            return;
        };
        check(server.socket(), EngineKind::Auto, &expected);
    }
}
