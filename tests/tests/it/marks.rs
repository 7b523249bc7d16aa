//! Imitations of what other programs' tools leave on a device, made from the layouts: signatures with their
//! surroundings, and the zeros that the tools write.

use std::os::unix::fs::FileExt;
use std::path::Path;

const MIB: u64 = 1 << 20;

/// Bytes that a tool writes, by their offset.
pub(crate) type Writes = Vec<(u64, Vec<u8>)>;

/// The writes of a tool to a device of a certain size.
pub(crate) struct Mark {
    /// Name in messages.
    pub(crate) name: &'static str,
    pub(crate) writes: Writes,
}

pub(crate) fn write(path: &Path, writes: &Writes) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    for (offset, bytes) in writes {
        file.write_all_at(bytes, *offset).unwrap();
    }
}

/// Returns a block of zeros with bytes at offsets.
fn block(len: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, part) in parts {
        bytes[*at..at + part.len()].copy_from_slice(part);
    }
    bytes
}

const MD_MAGIC: [u8; 4] = [0xfc, 0x4e, 0x2b, 0xa9];

/// Returns a superblock of md, version 1, of which only the first fields matter.
fn md() -> Vec<u8> {
    block(
        4096,
        &[
            (0, &MD_MAGIC),
            (4, &[1]),
            (16, &[0x5a; 16]),
            (32, b"host:0"),
        ],
    )
}

/// Returns the marks of each tool that writes to a whole device of `size` bytes.
pub(crate) fn whole(size: u64) -> Vec<Mark> {
    let mark = |name, writes| Mark { name, writes };
    let page = block(
        4096,
        &[
            (1024, &[1, 0, 0, 0, 0xff, 3]),
            (1036, &[7; 16]),
            (4086, b"SWAPSPACE2"),
        ],
    );
    let mda = block(512, &[(0, &[9; 4]), (4, b" LVM2 x[5A%r0N*>"), (20, &[1])]);
    let label = block(
        2048,
        &[
            (512, b"LABELONE"),
            (520, &[1]),
            (532, &[32]),
            (536, b"LVM2 001"),
            (544, &[b'u'; 32]),
        ],
    );
    let bitmap = block(4096, &[(0, b"bitm"), (4, &[4])]);
    let md_1_0 = (size / 512 - 16) / 8 * 8 * 512;
    let mut luks = block(
        4096,
        &[
            (0, b"LUKS\xba\xbe\0\x01"),
            (8, b"aes"),
            (40, b"xts-plain64"),
        ],
    );
    let luks1 = luks.clone();
    luks[7] = 2;
    let luks2 = vec![
        (0, luks),
        (4096, block(12288, &[(0, b"{\"keyslots\":{}}")])),
        (16384, block(4096, &[(0, b"SKUL\xba\xbe\0\x02")])),
    ];
    vec![
        mark("swap", vec![(0, page)]),
        mark("LVM2", vec![(0, label), (4096, mda)]),
        mark("md RAID 1.0", vec![(md_1_0, md())]),
        mark("md RAID 1.2", vec![(4096, md()), (8192, bitmap)]),
        mark("md RAID 1.1", vec![(0, md())]),
        mark("LUKS", vec![(0, luks1)]),
        mark("LUKS", luks2),
        mark("ext2/3/4", ext4(0)),
        mark("XFS", xfs(0)),
        mark("btrfs", btrfs(0)),
        // mkfs.btrfs also zeroes the first two MiB.
        mark(
            "btrfs",
            [vec![(0, vec![0; 2 * MIB as usize])], btrfs(0)].concat(),
        ),
    ]
}

/// Returns the writes of a GPT with one partition that contains `inside`. A tool writes the whole array of entries.
pub(crate) fn gpt(size: u64, first: u64, lba: u64, inside: Writes) -> Writes {
    let last = size / lba - 1;
    let array = 16384 / lba;
    let mut mbr = block(
        512,
        &[
            (446, &[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1]),
            (510, &[0x55, 0xaa]),
        ],
    );
    mbr[458..462].copy_from_slice(&(last as u32).to_le_bytes());
    let header = |at: u64, other: u64, entries: u64| {
        let mut bytes = block(lba as usize, &[(0, b"EFI PART"), (10, &[1]), (12, &[92])]);
        let fields = [at, other, 2 + array, last - array - 1];
        for (n, field) in fields.into_iter().enumerate() {
            bytes[24 + 8 * n..32 + 8 * n].copy_from_slice(&field.to_le_bytes());
        }
        bytes[72..80].copy_from_slice(&entries.to_le_bytes());
        bytes[80..84].copy_from_slice(&128_u32.to_le_bytes());
        bytes[84..88].copy_from_slice(&128_u32.to_le_bytes());
        bytes
    };
    let mut entries = block(16384, &[(0, &[0xaf; 32])]);
    entries[32..40].copy_from_slice(&(first / lba).to_le_bytes());
    entries[40..48].copy_from_slice(&(last - array - 1).to_le_bytes());
    let mut writes = vec![
        (0, mbr),
        (lba, header(1, last, 2)),
        (2 * lba, entries.clone()),
        ((last - array) * lba, entries),
        (last * lba, header(last, 1, last - array)),
    ];
    writes.extend(inside);
    writes
}

pub(crate) fn ext4(at: u64) -> Writes {
    let superblock = block(
        1024,
        &[
            (0, &[0, 16]),
            (4, &[0, 64]),
            (24, &[2]),
            (0x38, &[0x53, 0xef]),
            (0x4c, &[1]),
        ],
    );
    vec![
        (at + 1024, superblock),
        (at + 4096, block(64, &[(0, &[9, 1, 0, 0, 25, 1])])),
    ]
}

pub(crate) fn xfs(at: u64) -> Writes {
    let headers = block(
        2048,
        &[
            (0, b"XFSB\0\0\x10"),
            (512, b"XAGF"),
            (1024, b"XAGI"),
            (1536, b"XAFL"),
        ],
    );
    vec![(at, headers)]
}

pub(crate) fn btrfs(at: u64) -> Writes {
    let superblock = block(4096, &[(0, &[3; 4]), (0x20, &[8; 16]), (0x40, b"_BHRfS_M")]);
    vec![(at + (64 << 10), superblock)]
}
