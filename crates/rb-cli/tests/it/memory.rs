//! Memory needs that a device or a user determines: an error with need and limit, not an abort.

use std::fs::File;
use std::process::Command;

use rb_core::{ClassRequest, EngineKind, FormatOptions, Share, format};
use rb_io::{Access, Device};

use crate::program::{Place, Ran};

/// A sparse file that claims this many slots of 4 KiB; it takes less than 2 MiB of disk.
fn claims(gib: u64) -> Place {
    let place = Place::new();
    File::create(&place.store)
        .unwrap()
        .set_len(gib << 30)
        .unwrap();
    // `rb format` would allocate the metadata, which may be more space than there is.
    let device = Device::open(&place.store, Access::ReadWrite).unwrap();
    let opened = rb_io::open(device, EngineKind::Posix).unwrap();
    let class = ClassRequest {
        slot_bytes: 4096,
        share: Share::Rest,
    };
    let options = FormatOptions {
        key_len_max: 32,
        ..FormatOptions::new(opened.engine, vec![class])
    };
    format(&options).unwrap();
    place
}

/// Runs `rb` with this much address space.
fn limited(mib: u64, args: &[String]) -> Ran {
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "ulimit -v \"$0\" && exec \"$@\"",
        &(mib * 1024).to_string(),
    ]);
    Ran::of(shell.arg(env!("CARGO_BIN_EXE_rb")).args(args), b"value")
}

/// `rb info` and `rb fsck` of a sparse file that claimed 132 million slots aborted under an address-space limit:
/// `memory allocation of 1057251328 bytes failed`.
#[test]
fn more_slots_than_memory_are_an_error_with_need_and_limit() {
    let place = claims(1030);
    let value = ["k", "-"];
    let runs: [(&str, &[&str]); 5] = [
        ("info", &[]),
        ("fsck", &[]),
        ("ls", &[]),
        ("put", &value),
        ("inspect", &["slot", "--slot", "7"]),
    ];
    for (command, rest) in runs {
        let ran = limited(1024, &place.args(&[command], rest));
        if command == "inspect" {
            // Shows the slot, and why its owner is unknown.
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert!(ran.text().contains("bytes are needed"), "{ran:?}");
            continue;
        }
        let error = ran.error();
        for words in [
            "bytes are needed",
            "the limit is 1073741824 bytes (RLIMIT_AS)",
        ] {
            assert!(error.contains(words), "rb {command}: {error}");
        }
    }
}

/// Every limit gives a result or an error, also at the edges of what fits.
#[test]
fn no_limit_makes_it_abort() {
    let place = claims(64);
    let (mut fit, mut did_not) = (0, 0);
    for mib in (64..576).step_by(24) {
        for command in ["info", "fsck"] {
            let ran = limited(mib, &place.args(&[command], &[]));
            match ran.code {
                Some(0) => fit += 1,
                _ => {
                    ran.error();
                    did_not += 1;
                }
            }
        }
    }
    assert!(fit > 4 && did_not > 4, "{fit} fitted, {did_not} did not");
}

/// An audit made a text for each free slot: it took 20 s for 33 million of them, and 0.2 s without the texts.
#[test]
fn an_audit_of_33_million_free_slots_takes_less_than_two_seconds() {
    let place = claims(256);
    let mut shell = Command::new("sh");
    // CPU time, which other work on the machine does not change. The second line is that of the program.
    shell.args(["-c", "\"$0\" \"$@\" && times", env!("CARGO_BIN_EXE_rb")]);
    let text = Ran::of(shell.args(place.args(&["fsck"], &[])), b"").text();
    assert!(text.contains("clean (0 damaged"), "{text}");
    let times = text.lines().last().unwrap();
    let seconds = |time: &str| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
        60.0 * minutes.parse::<f64>().unwrap() + seconds.parse::<f64>().unwrap()
    };
    let taken: f64 = times.split_whitespace().map(seconds).sum();
    assert!(taken < 2.0, "{taken} s: {times}");
}
