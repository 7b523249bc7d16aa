//! Every row is found at its position, and not found after a wipe.

use std::io;
use std::process::Command;

use super::*;
use crate::device::{Access, Device};

const SIZE: usize = 4 << 20;

fn find(image: &[u8]) -> Vec<Signature> {
    find_signatures(image.len() as u64, &mut |offset, out| {
        let range = offset as usize..offset as usize + out.len();
        out.copy_from_slice(image.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    })
    .unwrap()
}

/// Writes what rows with a check need in addition to their magic.
fn satisfy(name: &str, offset: usize, image: &mut [u8]) {
    match name {
        "ext2/3/4" => {
            image[1024] = 16;
            image[1024 + 0x18] = 2;
            image[1024 + 0x4c] = 1;
        }
        "ext external journal" => image[1024 + 0x60] = 8,
        "NILFS2" => {
            image[1024] = 2;
            image[1024 + 8..1024 + 10].copy_from_slice(&[0x18, 1]);
        }
        "minix" if offset == 1024 + 0x18 => {
            image[1024 + 6] = 1;
            image[1024 + 8] = 1;
        }
        "minix" => {
            // Numbers that are valid in either byte order.
            for at in [0, 1, 4, 5, 6, 7] {
                image[1024 + at] = 1;
            }
        }
        "HFS" => image[1024 + 22] = 2,
        "FileVault" => {
            image[8] = 1;
            image[10] = 0x10;
            image[90] = 1;
        }
        "Apple partition map" => image[..2].copy_from_slice(b"ER"),
        "Sun disk label" => image[510..512].copy_from_slice(&[0xda, 0xbe]),
        "Atari partition table" => {
            image[0x1c2..0x1c6].copy_from_slice(&[0, 0, 32, 0]);
            image[0x1c6..0x1d2].copy_from_slice(b"\x01GEM\0\0\0\x02\0\0\x10\0");
        }
        "JMicron RAID" => image[offset + 3] = 1,
        "VIA RAID" => image[offset + 50] = 0xff,
        // The magic word is 0x2f00.
        "Silicon Image RAID" => {
            let checksum = offset - 0x60 + 0x13e;
            image[checksum..checksum + 2].copy_from_slice(&0xd100_u16.to_le_bytes());
        }
        "MBR partition table" => {
            image[446 + 4] = 0x83;
            image[446 + 12] = 8;
        }
        "NTFS" | "exFAT" | "FAT" => image[510..512].copy_from_slice(&[0x55, 0xaa]),
        "LVM2" => image[offset + 24..offset + 32].copy_from_slice(b"LVM2 001"),
        _ => {}
    }
}

#[test]
fn every_row_is_found_and_wiped() {
    for size in [SIZE, SIZE + 512, SIZE + 4096] {
        for probe in PROBES {
            let Some(offset) = probe.at.offset(size as u64) else {
                continue;
            };
            let mut image = vec![0; size];
            let Some(place) = image.get_mut(offset as usize..offset as usize + probe.magic.len())
            else {
                continue; // A copy further in than the length of this device.
            };
            place.copy_from_slice(probe.magic);
            satisfy(probe.name, offset as usize, &mut image);
            let found = find(&image);
            let wanted = Signature {
                name: probe.name,
                offset,
            };
            assert!(
                found.contains(&wanted),
                "{wanted} of {size} bytes: {found:?}"
            );
            for range in wipe_list(size as u64, &found) {
                image[range.start as usize..range.end as usize].fill(0);
            }
            assert_eq!(find(&image), [], "after wiping {wanted}");
        }
    }
}

#[test]
fn an_empty_device_has_none() {
    for size in [0, 512, 4096, 65536, 100 * 512, SIZE] {
        assert_eq!(find(&vec![0; size]), [], "{size}");
    }
    // The bytes of a value do not match any signature.
    let noise: Vec<u8> = (0..SIZE as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    assert_eq!(find(&noise), []);
}

#[test]
fn weak_magics_need_more() {
    let mut image = vec![0; SIZE];
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image[1080..1082].copy_from_slice(&[0x53, 0xef]);
    assert_eq!(find(&image), []);
}

#[test]
fn zfs_labels_go_as_a_whole() {
    let mut image = vec![0; SIZE];
    for label in checks::zfs_labels(SIZE as u64) {
        for block in [3, 77] {
            let at = (label + checks::ZFS_RING_START) as usize + block * 1024;
            image[at..at + 4].copy_from_slice(&[0x0c, 0xb1, 0xba, 0]);
        }
    }
    let found = find(&image);
    assert_eq!(found.len(), 4, "{found:?}");
    for range in wipe_list(SIZE as u64, &found) {
        image[range.start as usize..range.end as usize].fill(0);
    }
    assert_eq!(find(&image), []);
}

#[test]
fn wiped_ranges_are_joined_and_inside() {
    let found = [
        Signature {
            name: "a",
            offset: 4090,
        },
        Signature {
            name: "b",
            offset: 0,
        },
        Signature {
            name: "c",
            offset: SIZE as u64 + 512 - 4,
        },
    ];
    let list = wipe_list(SIZE as u64 + 512, &found);
    assert_eq!(list, [0..8192, SIZE as u64..SIZE as u64 + 512]);
}

#[test]
fn a_real_file_system_is_found() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(16 << 20).unwrap();
    let made = Command::new("mkfs.ext4")
        .arg("-q")
        .arg("-F")
        .arg(file.path())
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: mkfs.ext4 is not here; the synthetic superblock was tested");
        return;
    }
    let device = Device::open(file.path(), Access::ReadOnly).unwrap();
    let found = device.signature().unwrap().unwrap();
    assert_eq!(
        found,
        Signature {
            name: "ext2/3/4",
            offset: 1080
        }
    );
}
