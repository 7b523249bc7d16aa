//! `rb probe`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use serde_json::Value;

use crate::program::{Place, rb};

fn engine<'a>(probed: &'a Value, name: &str) -> &'a Value {
    let engines = probed["engines"].as_array().unwrap();
    engines.iter().find(|one| one["engine"] == name).unwrap()
}

#[test]
fn every_engine_is_usable_or_says_why_not() {
    let place = Place::formatted();
    let before = std::fs::read(&place.store).unwrap();
    // A writer beside it is none of its business.
    let probed = rb(["probe".as_ref(), "--json".as_ref(), place.store.as_os_str()]).json();
    assert_eq!(probed["kind"], "file");
    assert_eq!(probed["writable"], true);
    assert_eq!(probed["capacity_bytes"], before.len());
    let posix = engine(&probed, "posix");
    assert_eq!(posix["usable"], true);
    for limit in posix["limits"].as_array().unwrap() {
        let stated = limit["value"].is_null() != (limit["source"] != "");
        assert!(stated, "{limit} has no source");
    }
    for one in probed["engines"].as_array().unwrap() {
        let reason = one["reason"].as_str();
        assert_eq!(one["usable"] == true, reason.is_none(), "{one}");
    }
    let chosen = |one: &&Value| one["auto"] == true;
    let engines = probed["engines"].as_array().unwrap();
    assert_eq!(engines.iter().filter(chosen).count(), 1);
    assert!(
        std::fs::read(&place.store).unwrap() == before,
        "it never writes"
    );
    let text = rb(["probe".as_ref(), place.store.as_os_str()]).text();
    for words in [
        "engine posix: usable",
        "transfer_max",
        "FALLOC_FL_PUNCH_HOLE",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
}

#[test]
fn a_store_in_use_can_be_probed() {
    let place = Place::formatted();
    let options = rb_core::StoreOptions::default();
    let store = rb_core::Store::open(&place.store, options).unwrap();
    rb(["probe".as_ref(), place.store.as_os_str()]).text();
    store.put(b"k", b"v").unwrap();
    store.close().unwrap();
}

#[test]
fn what_is_no_device_is_refused_with_words() {
    let place = Place::new();
    let folder = place.folder.path().as_os_str();
    let error = rb(["probe".as_ref(), folder]).error();
    assert!(error.contains("directory"), "{error}");
    let error = rb(["probe".as_ref(), place.store.as_os_str()]).error();
    assert!(error.contains("stat"), "{error}");
    let file = File::create(&place.store).unwrap();
    file.write_all_at(b"short", 0).unwrap();
    let error = rb(["probe".as_ref(), place.store.as_os_str()]).error();
    assert!(error.contains("less than one block"), "{error}");
}

#[test]
fn advice_says_what_to_change() {
    let place = Place::new();
    // A file system without O_DIRECT: what is there depends on the kernel, so both answers are right.
    let file = File::create(&place.store).unwrap();
    file.set_len(1 << 20).unwrap();
    let probed = rb(["probe".as_ref(), "--json".as_ref(), place.store.as_os_str()]).json();
    let advice = probed["advice"].as_array().unwrap();
    let cached = |words: &&Value| words.as_str().unwrap().contains("page cache");
    assert_eq!(
        advice.iter().any(|words| cached(&words)),
        probed["direct"] == false
    );
}
