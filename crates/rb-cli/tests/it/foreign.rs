//! A store's device that another program was given: every command names the foreign data, and none writes to the device
//! without `--force`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bad_input::says;
use crate::program::{Place, arg, rb_with_input};

fn filled() -> Place {
    let place = Place::formatted();
    rb_with_input(place.args(&["put"], &["k", "-"]), b"value").text();
    place
}

/// The first page as `mkswap` leaves it.
fn swap() -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[1024] = 1;
    page[1028] = 0xff;
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    page
}

/// After `mkswap` on the device `rb put` wrote a superblock over the swap header, with one warning.
#[test]
fn foreign_data_is_named_and_not_overwritten() {
    let place = filled();
    place.overwrite(0, &swap());
    let before = std::fs::read(&place.store).unwrap();
    let words = ["swap at byte 4086", "--force"];
    says(
        &rb_with_input(place.args(&["put"], &["k", "-"]), b"new").error(),
        &words,
    );
    says(&place.rb(&["rm"], &["k"]).error(), &words);
    says(
        &place.rb(&["fsck", "--repair", "--yes"], &[]).error(),
        &words,
    );
    let bench = [
        "--op",
        "get",
        "--value-bytes",
        "64KiB",
        "--seconds",
        "0.1",
        "--store",
    ];
    says(
        &place.rb(&[&["bench"][..], &bench].concat(), &[]).error(),
        &words,
    );
    let looked = place.rb(&["info"], &[]);
    assert!(looked.stderr.contains("swap at byte 4086"), "{looked:?}");
    assert!(
        looked
            .text()
            .contains("FOREIGN     the device carries swap at byte 4086"),
        "{looked:?}"
    );
    let fsck = place.rb(&["fsck"], &[]);
    assert_eq!(fsck.code, Some(4), "{fsck:?}");
    let text = String::from_utf8(fsck.stdout).unwrap();
    assert!(
        text.contains("device at byte 4086: it carries swap"),
        "{text}"
    );
    for structure in ["superblock", "incarnation"] {
        let text = place.rb(&["inspect"], &[structure]).text();
        assert!(
            text.contains("the device carries swap at byte 4086"),
            "{text}"
        );
    }
    assert_eq!(place.rb(&["get"], &["k"]).stdout, b"value");
    assert!(
        std::fs::read(&place.store).unwrap() == before,
        "bytes have changed"
    );

    rb_with_input(place.args(&["put", "--force"], &["k", "-"]), b"new").text();
    assert!(
        std::fs::read(&place.store).unwrap()[..4096] == before[..4096],
        "the swap header stays"
    );
    place
        .rb(&["fsck", "--repair", "--yes", "--force"], &[])
        .text();
    let looked = place.rb(&["info"], &[]);
    assert_eq!(looked.stderr, "");
    assert_eq!(place.rb(&["get"], &["k"]).stdout, b"new");
    place.rb(&["rm"], &["k"]).text();
}

/// A loop device over a file, detached when this is dropped. `None` where that does not work.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Loop> {
        let made = Command::new("losetup")
            .args(["-f", "--show"])
            .arg(file)
            .output()
            .ok()?;
        let path = PathBuf::from(String::from_utf8(made.stdout).ok()?.trim());
        (made.status.success() && path.exists()).then_some(Loop(path))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

/// `rb get -o DEVICE` overwrote a block device without consent.
#[test]
fn a_value_overwrites_a_device_only_with_consent() {
    let place = filled();
    let disk = place.file("disk", &vec![0x5a; 1 << 20]);
    let swapped = {
        let mut bytes = vec![0; 1 << 20];
        bytes[..4096].copy_from_slice(&swap());
        place.file("swapped", &bytes)
    };
    let (Some(plain), Some(swap)) = (Loop::over(&disk), Loop::over(&swapped)) else {
        eprintln!("skipped: rb get -o DEVICE: there are no loop devices here");
        return;
    };
    let get =
        |more: &[&str], to: &Loop| place.rb(&["get"], &[&["k", "-o", arg(&to.0)], more].concat());
    says(&get(&[], &plain).error(), &["unknown data", "--yes"]);
    for more in [&[][..], &["--yes"], &["--force"]] {
        says(&get(more, &swap).error(), &["swap", "--yes --force"]);
    }
    for (device, more) in [(&plain, &["--yes"][..]), (&swap, &["--yes", "--force"])] {
        get(more, device).text();
        assert_eq!(std::fs::read(&device.0).unwrap()[..5], *b"value");
    }
}
