//! `rb probe`.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

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
    let probed = rb(["probe".as_ref(), "--json".as_ref(), place.store.as_os_str()]).json();
    assert_eq!(probed["kind"], "file");
    assert_eq!(
        (&probed["usable"], &probed["writable"]),
        (&true.into(), &true.into())
    );
    assert_eq!(probed["device_bytes"], before.len());
    let posix = engine(&probed, "posix");
    assert_eq!(posix["usable"], true);
    for limit in posix["limits"].as_array().unwrap() {
        let stated = limit["value"].is_null() == limit["source"].is_null();
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
        "transfer_bytes_max",
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
    // A file system without O_DIRECT on some kernels: both results are right.
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

/// With 8 MiB of locked memory 1,140 of a store's 1,216 windows stay unregistered, and there was "nothing to change": a
/// probe pins too little to meet the limit.
#[test]
fn a_small_limit_of_locked_memory_is_seen() {
    let place = Place::formatted();
    let probe = |memlock: &str| {
        let mut command = Command::new("prlimit");
        command.args([memlock, "setpriv", "--inh-caps=-ipc_lock"]);
        command.args(["--bounding-set=-ipc_lock", env!("CARGO_BIN_EXE_rb")]);
        let ran = command.args(["probe", "--json"]).arg(&place.store).output();
        let ran = ran.ok().filter(|ran| ran.status.success())?;
        serde_json::from_slice::<Value>(&ran.stdout).ok()
    };
    let (Some(small), Some(large)) = (probe("--memlock=8388608"), probe("--memlock=83886080"))
    else {
        return eprintln!("skipped: capabilities cannot be dropped here (prlimit, setpriv)");
    };
    let advised = |probed: &Value| {
        let advice = probed["advice"].as_array().unwrap();
        let about = |words: &Value| {
            words
                .as_str()
                .unwrap()
                .contains("RLIMIT_MEMLOCK (now 8388608")
        };
        advice.iter().any(about)
    };
    assert_eq!(
        advised(&small),
        engine(&small, "io_uring")["usable"] == true
    );
    assert!(!advised(&large), "{large}");
    // 16 windows of 4 MiB were "on", without a word that only one of them fits.
    if engine(&small, "io_uring")["usable"] == true {
        let shown = engine(&small, "io_uring")["features"].to_string();
        assert!(
            shown.contains("at most 1 of 16 windows")
                || shown.contains("windows of 4194304 bytes, each pinned"),
            "{shown}"
        );
        let advice = small["advice"].to_string();
        assert!(advice.contains("83886080 bytes for each queue"), "{advice}");
    }
    // With less than one window, registered buffers were on, "0 of 16 windows"; lingering was on, "up to 0ns".
    let tiny = probe("--memlock=65536").unwrap();
    let feature = |name: &str| {
        let features = engine(&tiny, "io_uring")["features"].as_array().unwrap();
        let found = features.iter().find(|found| found["name"] == name);
        found.unwrap_or(&Value::Null).clone()
    };
    if engine(&tiny, "io_uring")["usable"] == true {
        let registered = feature("registered buffers");
        assert_eq!(registered["on"], false, "{registered}");
        let words = ["no window of", "RLIMIT_MEMLOCK is 65536 bytes"];
        crate::bad_input::says(registered["detail"].as_str().unwrap(), &words);
        assert_eq!(feature("lingering")["on"], false);
    }
}

/// Detaches a loop device.
struct Detach(String);

impl Drop for Detach {
    fn drop(&mut self) {
        drop(Command::new("losetup").args(["-d", &self.0]).status());
    }
}

/// `rb probe` found the device usable, and `rb format` then failed with "not a multiple of 16384". Where no loop device can
/// have such blocks, the test is skipped.
#[test]
fn a_device_with_large_blocks_is_not_usable() {
    let place = Place::new();
    let file = File::create(&place.store).unwrap();
    file.set_len(64 << 20).unwrap();
    let mut losetup = Command::new("losetup");
    losetup.args(["--find", "--show", "--sector-size", "16384"]);
    let output = losetup.arg(&place.store).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        println!("no loop device with blocks of 16 KiB can be attached here");
        return;
    };
    let node = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let detach = Detach(node.clone());
    let reason = "its blocks are 16384 bytes (BLKSSZGET) and the store's format block is 4096";
    let ran = rb(["probe", "--json", &node]);
    assert_eq!(ran.code, Some(8), "{ran:?}");
    let probed = ran.json_line();
    assert_eq!(probed["usable"], false);
    let posix = engine(&probed, "posix");
    assert_eq!(posix["usable"], false);
    assert!(
        posix["reason"].as_str().unwrap().contains(reason),
        "{posix}"
    );
    let ran = rb(["probe", &node]);
    assert_eq!(ran.code, Some(8), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    let line = format!("engine posix: not usable: {reason}");
    assert!(text.contains(&line), "{text}");
    let error = rb(["format", &node, "--slot-bytes", "64KiB", "--yes"]).error();
    assert!(error.contains(reason), "{error}");
    drop(detach);
}
