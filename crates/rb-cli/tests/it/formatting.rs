//! The stores that `rb format` makes, and the consent that it needs.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bad_input::says;
use crate::program::{Place, arg, rb_with_input};

#[test]
fn impossible_layouts_make_no_file() {
    let long = vec!["4KiB:1%"; 65].join(",");
    let cases: [(&[&str], &[&str]); 13] = [
        (
            &["--slot-bytes", "4097", "--size", "16MiB"],
            &["slots of 4097 bytes", "multiple of 4096"],
        ),
        (
            &["--slot-bytes", "0", "--size", "16MiB"],
            &["slots of 0 bytes", "4096 to"],
        ),
        (
            &["--slot-bytes", "2TiB", "--size", "16MiB"],
            &["slots of 2199023255552 bytes"],
        ),
        (
            &["--slot-bytes", "64KiB", "--size", "1MiB"],
            &["--size is 1048576 bytes", "the smallest that works"],
        ),
        (
            &["--slot-bytes", "64KiB", "--size", "4MiB"],
            &["--size is 4194304 bytes", "the smallest that works"],
        ),
        (
            &["--slot-bytes", "4KiB:60%,8KiB:60%", "--size", "64MiB"],
            &["120 percent"],
        ),
        (
            &["--slot-bytes", "4KiB:50%,4KiB:50%", "--size", "64MiB"],
            &["two slot classes of 4096"],
        ),
        (&["--slot-bytes", &long, "--size", "64MiB"], &["65", "64"]),
        (
            &[
                "--slot-bytes",
                "64KiB",
                "--size",
                "64MiB",
                "--key-bytes",
                "1025",
            ],
            &["--key-bytes is 1025", "1 to 1024"],
        ),
        (
            &[
                "--slot-bytes",
                "64KiB",
                "--size",
                "64MiB",
                "--key-bytes",
                "0",
            ],
            &["--key-bytes is 0", "1 to 1024"],
        ),
        (
            &[
                "--slot-bytes",
                "64KiB",
                "--size",
                "64MiB",
                "--metadata-bytes",
                "257",
            ],
            &["metadata", "257", "0 to 256"],
        ),
        (
            &[
                "--slot-bytes",
                "64KiB",
                "--size",
                "64MiB",
                "--log-size",
                "4096",
            ],
            &["4096", "log"],
        ),
        (&["--slot-bytes", "64KiB"], &["--size"]),
    ];
    for (args, words) in cases {
        let place = Place::new();
        says(&place.rb(&["format"], args).error(), words);
        assert!(!place.store.exists(), "{args:?} made a file");
    }
}

#[test]
fn formatting_over_something_needs_consent() {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
    let before = std::fs::read(&place.store).unwrap();
    let args = ["--slot-bytes", "4KiB", "--size", "8MiB"];
    for extra in [&[][..], &["--force"]] {
        let args = [&args[..], extra].concat();
        says(
            &place.rb(&["format"], &args).error(),
            &["holds a store", "--yes"],
        );
        assert!(
            std::fs::read(&place.store).unwrap() == before,
            "the refusal wrote to the store"
        );
    }
    place.rb(&["format", "--yes"], &args).text();
    assert_eq!(place.listing()["entries"], 0);
    let len = std::fs::metadata(&place.store).unwrap().len();
    assert!(len >= before.len() as u64, "files are never shrunk");
}

#[test]
fn a_file_system_needs_force_as_well() {
    let place = Place::new();
    make_ext4(&place.store);
    let before = std::fs::read(&place.store).unwrap();
    let args = ["--slot-bytes", "4KiB"];
    for extra in [&[][..], &["--yes"], &["--force"]] {
        let args = [&args[..], extra].concat();
        says(&place.rb(&["format"], &args).error(), &["ext", "--force"]);
        assert!(
            std::fs::read(&place.store).unwrap() == before,
            "the refusal wrote to the file"
        );
    }
    place.rb(&["format", "--yes", "--force"], &args).text();
    assert_eq!(place.rb(&["info", "--json"], &[]).json()["live_slots"], 0);
}

/// Makes an ext4 file system, or else its signature: the magic number 0xEF53, little-endian, at byte 1080.
fn make_ext4(path: &Path) {
    std::fs::write(path, vec![0; 16 << 20]).unwrap();
    let made = ["mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"]
        .iter()
        .any(|program| {
            let status = Command::new(program).args(["-q", "-F"]).arg(path).status();
            status.is_ok_and(|status| status.success())
        });
    if !made {
        let mut bytes = vec![0; 16 << 20];
        bytes[1080..1082].copy_from_slice(&[0x53, 0xEF]);
        std::fs::write(path, bytes).unwrap();
    }
}

/// The checksum of a superblock: CRC32 as in IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_store_that_cannot_be_read_is_named_and_needs_force() {
    let args = ["--slot-bytes", "4KiB", "--size", "16MiB"];
    let newer = Place::formatted();
    let mut block = std::fs::read(&newer.store).unwrap()[..4096].to_vec();
    block[8..12].copy_from_slice(&99_u32.to_le_bytes());
    let checksum = u64::from(crc32(&block[..4088]));
    block[4088..].copy_from_slice(&checksum.to_le_bytes());
    for copy in [0, 1 << 20] {
        newer.overwrite(copy, &block);
    }
    let both = Place::formatted();
    for copy in [0, 1 << 20] {
        both.overwrite(copy + 100, &[0xA5; 8]);
    }
    for (place, words) in [(newer, "version 99"), (both, "without a usable superblock")] {
        let before = std::fs::read(&place.store).unwrap();
        for extra in [&[][..], &["--yes"], &["--force"]] {
            let error = place.rb(&["format"], &[&args[..], extra].concat()).error();
            says(&error, &["raw-block store", words, "--yes --force"]);
            assert!(
                std::fs::read(&place.store).unwrap() == before,
                "the refusal wrote to the store"
            );
        }
        place.rb(&["format", "--yes", "--force"], &args).text();
        assert_eq!(place.listing()["entries"], 0);
    }
}

#[test]
fn what_is_no_store_is_not_called_one() {
    let place = Place::new();
    std::fs::write(&place.store, [7; 8192]).unwrap();
    let args = ["--slot-bytes", "4KiB", "--size", "16MiB"];
    says(
        &place.rb(&["format"], &args).error(),
        &["unknown data", "--yes"],
    );
    place.rb(&["format", "--yes"], &args).text();
    assert_eq!(place.listing()["entries"], 0);
}

/// A file or device of zeros was "unknown data", and its owner had to agree that nothing was destroyed.
#[test]
fn zeros_are_nothing_to_lose() {
    let place = Place::new();
    let args = ["--slot-bytes", "4KiB"];
    let mut bytes = vec![0; 8 << 20];
    std::fs::write(&place.store, &bytes).unwrap();
    place.rb(&["format"], &args).text();
    bytes[(5 << 20) + 17] = 1;
    let mut longer = vec![0; 8 << 20];
    longer.push(1);
    for bytes in [bytes, longer, b"short".to_vec()] {
        std::fs::write(&place.store, &bytes).unwrap();
        let said = place.rb(&["format", "--size", "16MiB"], &args).error();
        says(&said, &["unknown data", "--yes"]);
        assert!(std::fs::read(&place.store).unwrap() == bytes);
    }
}

/// A kill during the first format left a file that later formats refused as unknown data. Now it holds a store, or can be
/// formatted as if it were new.
#[test]
fn a_format_after_a_kill_needs_no_consent() {
    let (mut made, mut repeated) = (0, 0);
    for round in 0..40 {
        let place = Place::new();
        let args = ["--slot-bytes", "4KiB", "--size", "16MiB"];
        let mut child = Command::new(env!("CARGO_BIN_EXE_rb"))
            .args(place.args(&["format"], &args))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(250 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let again = place.rb(&["format"], &args);
        if again.code == Some(0) {
            repeated += 1;
        } else {
            says(&again.error(), &["it holds a store", "--yes"]);
            made += 1;
        }
        assert_eq!(place.listing()["entries"], 0);
    }
    assert!(repeated > 0, "{made} stores made, {repeated} repeated");
}

#[test]
fn an_empty_file_counts_as_none() {
    let place = Place::new();
    File::create(&place.store).unwrap();
    let args = ["--slot-bytes", "64KiB"];
    says(&place.rb(&["format"], &args).error(), &["--size"]);
    let args = [&args[..], &["--size", "16MiB"]].concat();
    let made = place.rb(&["format", "--json"], &args).json();
    assert!(made["slots"].as_u64().unwrap() > 0, "{made}");
    assert_eq!(std::fs::metadata(&place.store).unwrap().len(), 16 << 20);
    rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
    assert_eq!(place.rb(&["get"], &["k"]).stdout, b"value");

    let replayed = Place::new();
    File::create(&replayed.store).unwrap();
    let trace = replayed.file(
        "trace",
        b"{\"hash_ids\": [1, 2]}\n{\"hash_ids\": [1, 2, 3]}\n",
    );
    let args = ["--slots", "64", "--slot-bytes", "4KiB"];
    let line = replayed
        .rb(&["replay", "--json", arg(&trace), "--store"], &args)
        .json();
    assert_eq!(
        (&line["block_hits"], &line["entries"]),
        (&2.into(), &3.into()),
        "{line}"
    );
}

#[test]
fn a_format_that_discards_gives_a_files_blocks_back() {
    let place = Place::formatted();
    let allocated = || std::fs::metadata(&place.store).unwrap().blocks() * 512;
    let slots = 64 * (68 << 10);
    let before = allocated();
    assert!(before >= slots, "{before} bytes are allocated");
    let args = [
        "--slot-bytes",
        "64KiB",
        "--slots",
        "64",
        "--discard",
        "--yes",
    ];
    place.rb(&["format"], &args).text();
    let back = before - allocated();
    assert!(back * 100 >= slots * 95, "{back} of {slots} bytes are back");
    rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
}

/// A file system without fallocate is a warning, on standard error and in the line of JSON.
#[test]
fn space_that_cannot_be_reserved_is_a_warning() {
    let place = Place::new();
    let mounted = Command::new("mount")
        .args(["-t", "ramfs", "ramfs"])
        .arg(place.folder.path())
        .output()
        .unwrap();
    if !mounted.status.success() {
        let why = String::from_utf8_lossy(&mounted.stderr);
        return eprintln!("skipped: no ramfs can be mounted: {why}");
    }
    let args = ["--slot-bytes", "64KiB", "--size", "8MiB"];
    let people = place.rb(&["format"], &args);
    let program = place.rb(&["format", "--yes", "--json"], &args);
    let unmounted = Command::new("umount").arg(place.folder.path()).status();
    assert!(unmounted.unwrap().success());
    people.text();
    for words in ["rb: warning: ", "no fallocate", "puts fail"] {
        assert!(people.stderr.contains(words), "{}", people.stderr);
    }
    let warnings = program.json()["warnings"].clone();
    assert_eq!(warnings.as_array().unwrap().len(), 1, "{warnings}");
    assert!(warnings[0].as_str().unwrap().contains("no fallocate"));
}

/// `rb format --engine libblkio` succeeded in a build without that engine: no engine was looked for.
#[test]
fn the_engine_of_a_format_is_the_one_that_was_named() {
    let place = Place::new();
    let args = ["--slot-bytes", "64KiB", "--size", "8MiB"];
    let format = |engine| place.rb(&["format", "--engine", engine], &args);
    let said = format("uring_cmd").error();
    assert!(
        said.contains("passthrough needs an NVMe namespace"),
        "{said}"
    );
    if !cfg!(feature = "libblkio") {
        let said = format("libblkio").error();
        assert!(said.contains("not part of this build"), "{said}");
    }
    assert!(!place.store.exists(), "a failed format leaves no file");
    format("posix").text();
}

#[test]
fn a_label_is_shown_by_info_and_one_that_cannot_be_is_refused() {
    let args = ["--slot-bytes", "64KiB", "--size", "8MiB", "--label"];
    let format = |label: &str| {
        let place = Place::new();
        let ran = place.rb(&["format"], &[&args[..], &[label]].concat());
        (place, ran)
    };
    for (label, shown) in [("llama bf16", "llama bf16"), ("hex:ff01", "hex:ff01")] {
        let (place, ran) = format(label);
        ran.text();
        assert_eq!(place.rb(&["info", "--json"], &[]).json()["label"], shown);
        assert!(place.rb(&["info"], &[]).text().contains(shown));
    }
    let (place, ran) = format("");
    ran.text();
    let info = place.rb(&["info", "--json"], &[]).json();
    assert!(info["label"].is_null(), "{info}");

    let long = "x".repeat(257);
    for (label, why) in [
        (long.as_str(), "--label has 257 bytes"),
        ("hex:4100", "--label ends with a zero byte"),
        ("hex:4", "hex:"),
    ] {
        let (place, ran) = format(label);
        let error = ran.error();
        assert!(error.contains(why), "{error}");
        assert!(!place.store.exists());
    }
}
