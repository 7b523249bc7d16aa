//! Tests of who owns a device: data of other programs' tools in the fixed blocks and the unused areas is detected
//! before anything is written, named, and left unchanged (C8). What a crash of the store leaves there is repaired as
//! before.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use rb_core::{
    AuditOptions, AuditState, ClassRequest, OpenError, RepairReport, Share, Store, StoreOptions,
    audit, repair,
};
use rb_format::{
    FORMAT_BLOCK, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, METADATA_START, SUPERBLOCK_A_OFFSET,
    SUPERBLOCK_B_OFFSET, Superblock,
};
use rb_io::OpKind;
use rb_testkit::skip;

use crate::marks::{self, Mark};
use crate::support::{EIO, FileFixture, Sim, corrupt, key, value, zero};

const BLOCK: u64 = FORMAT_BLOCK as u64;
const MIB: u64 = 1 << 20;
const LEN: usize = 3000;
const KEYS: u64 = 8;

/// Makes a store of 300 slots of 64 KiB, about 26 MiB, that was opened twice before.
fn fixture() -> FileFixture {
    let classes = vec![ClassRequest {
        slot_bytes: 64 << 10,
        share: Share::Slots(300),
    }];
    let fixture = FileFixture::with(classes, |_| {});
    let store = fixture.open();
    for n in 0..KEYS {
        store.put(&key(n), &value(n, LEN)).unwrap();
    }
    store.close().unwrap();
    drop(store);
    // Now both incarnation blocks are written.
    fixture.open().close().unwrap();
    fixture
}

fn assert_whole(store: &Store, when: &str) {
    for n in 0..KEYS {
        let found = store.get(&key(n)).unwrap();
        assert!(
            found.is_some_and(|found| found[..] == value(n, LEN)),
            "{when}: key {n}"
        );
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

fn superblock(fixture: &FileFixture) -> Superblock {
    let store = fixture.open_with(|options| options.read_only = true);
    store.superblock().clone()
}

fn force_repair(path: &Path, force: bool) -> Result<RepairReport, OpenError> {
    let options = AuditOptions {
        force,
        ..AuditOptions::default()
    };
    repair(path, &options, |_| true)
}

/// Checks that every way to open for writing refuses and names `name`, an audit and a reader name it too, and not a
/// byte changes.
fn assert_left_alone(path: &Path, name: &str, when: &str) {
    let before = std::fs::read(path).unwrap();
    let defaults = StoreOptions::default;
    let start_empty = StoreOptions {
        start_empty: true,
        ..defaults()
    };
    for options in [defaults(), start_empty] {
        let words = Store::open(path, options)
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            words.contains(name) && words.contains(path.to_str().unwrap()),
            "{when}: {words}"
        );
    }
    let findings = |done: Result<Vec<rb_core::Finding>, OpenError>| match done {
        Ok(findings) => findings
            .iter()
            .map(|found| {
                format!(
                    "{}: {} at byte {}; ",
                    found.structure, found.wrong, found.offset
                )
            })
            .collect(),
        Err(why) => why.to_string(),
    };
    let words = findings(force_repair(path, false).map(|report| {
        assert!(report.after.is_none(), "{when}: it was repaired");
        report.before.findings
    }));
    assert!(words.contains(name), "{when}, repair: {words}");
    let words = findings(audit(path, &AuditOptions::default()).map(|report| report.findings));
    assert!(words.contains(name), "{when}, audit: {words}");
    let reading = StoreOptions {
        read_only: true,
        ..defaults()
    };
    let words = match Store::open(path, reading) {
        Ok(store) => {
            let found = store.recovery().foreign.iter();
            found.map(|found| format!("{found}; ")).collect()
        }
        Err(why) => why.to_string(),
    };
    assert!(words.contains(name), "{when}, read-only: {words}");
    assert!(
        std::fs::read(path).unwrap() == before,
        "{when}: bytes have changed"
    );
}

/// The first opening after `mkswap` on a store's device repaired superblock copy A over the swap header, with one
/// warning; LVM, md and LUKS headers were overwritten in the same way, or lost what lay in the incarnation blocks.
#[test]
fn what_tools_leave_on_a_whole_device_is_left_alone() {
    let fixture = fixture();
    for more in [0, 512, 3 * MIB] {
        let size = size(&fixture.path()) + more;
        for Mark { name, writes } in marks::whole(size) {
            let image = fixture.image();
            std::fs::File::options()
                .write(true)
                .open(image.path())
                .unwrap()
                .set_len(size)
                .unwrap();
            marks::write(&image.path(), &writes);
            assert_left_alone(&image.path(), name, &format!("{name}, {more} bytes more"));
        }
    }
}

/// With a first partition that began before the slots, opening with default options wrote superblock and incarnation
/// over the table, and metadata over the file system in the partition.
#[test]
fn a_partition_table_and_what_is_in_its_partition_are_left_alone() {
    let fixture = fixture();
    let size = size(&fixture.path());
    for first in [17 << 10, MIB, 2 * MIB, 16 * MIB] {
        let inside = [
            marks::ext4(first),
            marks::xfs(first),
            marks::btrfs(first),
            Vec::new(),
        ];
        for (number, inside) in inside.into_iter().enumerate() {
            for lba in [512, 4096] {
                // With blocks of 4 KiB no partition begins at 17 KiB.
                let first = first.next_multiple_of(lba);
                let image = fixture.image();
                marks::write(&image.path(), &marks::gpt(size, first, lba, inside.clone()));
                let when = format!("partition at {first}, file system {number}, blocks of {lba}");
                assert_left_alone(&image.path(), "GPT", &when);
            }
        }
    }
    // Only 512 bytes: an MBR, as fdisk writes it.
    let image = fixture.image();
    let mbr = marks::gpt(size, MIB, 512, Vec::new()).swap_remove(0);
    marks::write(&image.path(), &vec![mbr]);
    assert_left_alone(&image.path(), "MBR partition table", "an MBR alone");
}

/// Data without a known signature is detected in the unused areas, too.
#[test]
fn bytes_in_an_unused_area_are_foreign() {
    let fixture = fixture();
    for area in superblock(&fixture).unused_areas() {
        for at in [
            area.start,
            area.start + (area.end - area.start) / 2,
            area.end - 1,
        ] {
            let image = fixture.image();
            marks::write(&image.path(), &vec![(at, vec![1])]);
            let name = format!("an unused area at byte {at}");
            assert_left_alone(&image.path(), &name, "one byte");
        }
    }
}

/// A crash leaves one of the two incarnation blocks. A store that no opening wrote to has none.
#[test]
fn both_incarnation_blocks_do_not_vanish() {
    let new = FileFixture::new(4096, 8);
    zero(&new, INCARNATION_A_OFFSET, 2 * FORMAT_BLOCK);
    new.open().close().unwrap();
    // The only block that was written is gone: one bad block costs nothing.
    zero(&new, INCARNATION_B_OFFSET, FORMAT_BLOCK);
    new.open().close().unwrap();
    let fixture = fixture();
    for noise in [0, 0xA5] {
        let image = fixture.image();
        marks::write(
            &image.path(),
            &vec![(INCARNATION_A_OFFSET, vec![noise; 2 * FORMAT_BLOCK])],
        );
        assert_left_alone(&image.path(), "incarnation blocks", "noise");
        for one in [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET] {
            let image = fixture.image();
            marks::write(&image.path(), &vec![(one, vec![noise; FORMAT_BLOCK])]);
            assert_whole(&image.open(), "one block is gone");
        }
    }
}

/// Values may look like anything, and the device's end and offset 64 MiB, where signatures are searched, may lie in
/// slots.
#[test]
fn values_that_look_like_signatures_are_values() {
    let classes = vec![ClassRequest {
        slot_bytes: 64 << 10,
        share: Share::Slots(1100),
    }];
    let fixture = FileFixture::with(classes, |_| {});
    let superblock = superblock(&fixture);
    let slots = superblock.runs[0].first_byte..superblock.log_2.offset;
    let at = (64 << 20) + 0x40;
    assert!(slots.contains(&at));
    let file = std::fs::File::options()
        .write(true)
        .open(fixture.path())
        .unwrap();
    file.write_all_at(b"_BHRfS_M", at).unwrap();
    // In every block of every value a label of LVM, and the superblock of an md.
    let looks = marks::whole(size(&fixture.path()));
    let mut value = vec![0; 64 << 10];
    for (number, block) in value.chunks_exact_mut(512).enumerate() {
        let from = &looks[number % looks.len()].writes[0].1;
        let from = &from[from.len().saturating_sub(512)..];
        block[..from.len()].copy_from_slice(from);
    }
    let store = fixture.open();
    for n in 0..1100 {
        store.put(&key(n), &value).unwrap();
    }
    store.close().unwrap();
    drop(store);
    let store = fixture.open();
    assert_eq!(store.recovery().foreign, []);
    assert!(
        store
            .get(&key(7))
            .unwrap()
            .is_some_and(|found| found[..] == value)
    );
}

/// Superblock copies that the store itself leaves are repaired without consent: copies that are zero, older,
/// unreadable, or torn in every way between two of those.
#[test]
fn copies_as_a_crash_leaves_them_are_repaired() {
    let sim = Sim::new(8);
    sim.open().close().unwrap();
    let newest = sim
        .open_with(|options| options.start_empty = true)
        .superblock()
        .clone();
    let sim = sim.crash();
    let mut older = newest.clone();
    older.sequence -= 1;
    older.identity.epoch -= 1;
    let states = [
        vec![0; FORMAT_BLOCK],
        older.encode().to_vec(),
        newest.encode().to_vec(),
    ];
    for copy in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            for kept in 0..256_u32 {
                let sectors = (0..8).map(|n| {
                    (
                        n * 512,
                        &states[if kept >> n & 1 == 1 { one } else { other }],
                    )
                });
                let bytes: Vec<u8> = sectors
                    .flat_map(|(at, from)| from[at..at + 512].to_vec())
                    .collect();
                let torn = sim.crash();
                torn.device.poke(copy, &bytes);
                let store = torn.open();
                assert_eq!(store.recovery().superblock_left, [""; 0]);
                assert_eq!(store.recovery().superblock_repaired, bytes != states[2]);
                let mut found = vec![0; FORMAT_BLOCK];
                torn.device.peek(copy, &mut found);
                assert!(
                    found == states[2],
                    "copy at {copy}, {one} and {other}, {kept:b}"
                );
            }
        }
        let bad = sim.crash();
        bad.device
            .fail_always(OpKind::Read, copy..copy + BLOCK, EIO);
        assert!(bad.open().recovery().superblock_repaired);
    }
}

/// Rot in a copy may be the first bytes of an unknown signature: the copy stays, the store uses the other one, and a
/// forced repair rewrites it.
#[test]
fn a_copy_that_no_crash_leaves_stays_until_it_is_forced() {
    let fixture = fixture();
    for copy in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
        let image = fixture.image();
        corrupt(&image, copy + 100, 8);
        let read = || {
            let mut bytes = vec![0; FORMAT_BLOCK];
            let file = std::fs::File::open(image.path()).unwrap();
            file.read_exact_at(&mut bytes, copy).unwrap();
            bytes
        };
        let before = read();
        let store = image.open();
        assert_eq!(store.recovery().superblock_left.len(), 1);
        assert!(!store.recovery().superblock_repaired);
        assert_whole(&store, "rot in a copy");
        drop(store);
        let after = force_repair(&image.path(), false).unwrap().after.unwrap();
        assert_eq!(after.state, AuditState::Damaged);
        assert!(read() == before, "it was written over");
        let after = force_repair(&image.path(), true).unwrap().after.unwrap();
        assert_eq!(after.state, AuditState::Clean, "{after:#?}");
        assert_whole(&image.open(), "forced");
    }
}

/// A user who knows better can force it: the store continues, and a repair takes the device back.
#[test]
fn force_overrides_and_a_forced_repair_takes_the_device_back() {
    let fixture = fixture();
    let size = size(&fixture.path());
    let mut marks = marks::whole(size);
    marks.truncate(4);
    let gpt = marks::gpt(size, 16 * MIB, 512, Vec::new());
    marks.push(Mark {
        name: "GPT",
        writes: gpt,
    });
    for Mark { name, writes } in marks {
        let image = fixture.image();
        marks::write(&image.path(), &writes);
        let store = image.open_with(|options| options.force = true);
        assert!(!store.recovery().foreign.is_empty(), "{name}");
        assert_whole(&store, name);
        store.close().unwrap();
        drop(store);
        let after = force_repair(&image.path(), true).unwrap().after.unwrap();
        assert_eq!(
            (after.state, after.foreign),
            (AuditState::Clean, vec![]),
            "{name}"
        );
        let store = image.open();
        assert_eq!(store.recovery().foreign, []);
        assert_whole(&store, name);
    }
}

/// One bad block in an unused area is not evidence of another owner, and costs nothing (C7).
#[test]
fn an_unreadable_block_of_an_unused_area_is_no_verdict() {
    let sim = Sim::new(8);
    let store = sim.open();
    store.put(b"key", b"value").unwrap();
    let end = store.superblock().device_bytes;
    store.close().unwrap();
    drop(store);
    for at in [
        INCARNATION_B_OFFSET + BLOCK,
        METADATA_START - BLOCK,
        end - BLOCK,
    ] {
        sim.device.fail_always(OpKind::Read, at..at + BLOCK, EIO);
    }
    let store = sim.open();
    assert!(store.get(b"key").unwrap().is_some());
}

/// The same with the tools themselves, if they are installed.
#[test]
fn real_tools_are_seen() {
    let tools: [(&str, &[&str], &str); 8] = [
        ("mkswap", &[], "swap"),
        ("mkfs.ext4", &["-q", "-F"], "ext2/3/4"),
        ("mkfs.xfs", &["-q", "-f"], "XFS"),
        ("mkfs.btrfs", &["-q", "-f"], "btrfs"),
        ("pvcreate", &["-ff", "-y"], "LVM2"),
        ("sgdisk", &["-n", "1:34:0"], "GPT"),
        ("sgdisk", &["-n", "1:2048:0"], "GPT"),
        (
            "cryptsetup",
            &[
                "-q",
                "luksFormat",
                "--pbkdf-force-iterations=1000",
                "--pbkdf=pbkdf2",
                "-d",
                "/dev/zero",
                "-l",
                "32",
            ],
            "LUKS",
        ),
    ];
    let fixture = fixture();
    for (tool, args, name) in tools {
        let image = fixture.image();
        let ran = ["", "/usr/sbin/", "/sbin/"].iter().any(|folder| {
            let mut command = Command::new(format!("{folder}{tool}"));
            let done = command.args(args).arg(image.path()).output();
            done.is_ok_and(|done| done.status.success())
        });
        match ran {
            true => assert_left_alone(&image.path(), name, tool),
            false => skip::note(
                &format!("{tool} on a store"),
                "the tool is not here or did not run",
            ),
        }
    }
}
