//! Tests of processes that may open few files (`RLIMIT_NOFILE`). The limit applies to a whole process, so each test
//! runs itself once more in a separate process.

use std::process::Command;

use rb_core::{EngineKind, FormatOptions, Store, StoreOptions, format};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{FileFixture, KIB, key, value};

const CHILD: &str = "RB_DESCRIPTORS_CHILD";

/// Returns whether this is the process that must be limited. Otherwise runs that process and checks its result.
fn is_child(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program);
    let test = format!("descriptors::{test}");
    child.args(["--exact", &test, "--nocapture", "--test-threads=1"]);
    let output = child.env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{complaints}");
    assert!(text.contains("1 passed"), "{text}");
    false
}

/// Lets the process have only descriptors below `limit`.
fn limit_to(limit: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(limit);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

/// Uses a store; returns its engine, and why the preferred one was not chosen.
fn use_store(fixture: &FileFixture) -> (&'static str, Vec<String>) {
    let options = StoreOptions {
        engine: EngineKind::Auto,
        ..fixture.options()
    };
    let store = Store::open(fixture.path(), options).unwrap();
    let (a, b) = (key(1), key(2));
    store.put(&a, &value(1, 9000)).unwrap();
    store.put_async(&b, &value(2, 9000)).wait().unwrap();
    store.sync().unwrap();
    assert_eq!(*store.get(&a).unwrap().unwrap(), *value(1, 9000));
    let found = store.get_async(&b).wait().unwrap().unwrap();
    assert_eq!(*found, *value(2, 9000));
    let rejected = store.rejected_engines().iter();
    let rejected = rejected.map(|rejected| rejected.reason.clone()).collect();
    let engine = store.engine_name();
    store.close().unwrap();
    (engine, rejected)
}

/// With 8 to 13 descriptors the first rings could be created, so io_uring was chosen, and opening failed because the
/// next rings could not.
#[test]
fn with_few_descriptors_auto_runs_posix_and_says_why() {
    if !is_child("with_few_descriptors_auto_runs_posix_and_says_why") {
        return;
    }
    let fixture = FileFixture::new(64 * KIB as u64, 64);
    let (usual, rejected) = use_store(&fixture);
    if usual != "io_uring" {
        println!("io_uring is denied to this test from the start: {rejected:?}");
    }
    let mut fell_back = 0;
    for limit in 8..40 {
        limit_to(limit);
        let (engine, rejected) = use_store(&fixture);
        if engine == usual {
            continue;
        }
        fell_back += 1;
        assert_eq!((engine, rejected.len()), ("posix", 1), "limit {limit}");
        let words = format!("RLIMIT_NOFILE is {limit} (ulimit -n)");
        assert!(rejected[0].contains(&words), "{rejected:?}");
    }
    assert!(
        usual != "io_uring" || (6..24).contains(&fell_back),
        "{fell_back}"
    );
}

/// If descriptors run out while a store is open, its first async operation has no queue. The error did not name the
/// limit.
#[test]
fn an_async_operation_without_descriptors_names_the_limit() {
    if !is_child("an_async_operation_without_descriptors_names_the_limit") {
        return;
    }
    let fixture = FileFixture::new(64 * KIB as u64, 64);
    let options = StoreOptions {
        engine: EngineKind::Auto,
        ..fixture.options()
    };
    let store = Store::open(fixture.path(), options).unwrap();
    store.put(&key(2), &value(2, 9000)).unwrap();
    let before = getrlimit(Resource::Nofile).current.unwrap();
    limit_to(0);
    let put = store.put_async(&key(1), &value(1, 9000)).wait();
    let got = store.get_async(&key(2)).wait();
    let second = Store::open(fixture.path(), StoreOptions::default()).unwrap_err();
    let formatted = format(&FormatOptions::new(fixture.path(), Vec::new())).unwrap_err();
    // Before the limit is changed again: such an error reads it when it is displayed.
    let opened = [second.to_string(), formatted.to_string()];
    limit_to(before);
    for words in opened {
        assert!(words.contains("RLIMIT_NOFILE is 0"), "{words}");
    }
    if store.engine_name() == "io_uring" {
        let words = put.unwrap_err().to_string();
        let got = got.unwrap_err().to_string();
        assert!(got.contains("RLIMIT_NOFILE is 0"), "{got}");
        assert!(words.contains("RLIMIT_NOFILE is 0"), "{words}");
        assert!(words.contains("os error 24"), "{words}");
        assert!(!words.contains("MEMLOCK"), "{words}");
    }
    // The failure is not cached.
    store.put_async(&key(1), &value(1, 9000)).wait().unwrap();
    let found = store.get_async(&key(1)).wait().unwrap().unwrap();
    assert_eq!(*found, *value(1, 9000));
    store.close().unwrap();
}
