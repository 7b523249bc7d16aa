//! Checks beyond comparing magic bytes: weak magics, and ZFS.

/// The name of ZFS labels, which are wiped as a whole.
pub(super) const ZFS: &str = "ZFS label";
/// ZFS On-Disk Specification, section 1.2: four labels of 256 KiB, two at either end; the
/// uberblocks fill the second half of each.
pub(super) const ZFS_LABEL_BYTES: u64 = 256 << 10;
pub(super) const ZFS_RING_START: u64 = 128 << 10;
pub(super) const ZFS_RING_BYTES: u64 = 128 << 10;
/// Uberblocks are at least 1 KiB apart.
const UBERBLOCK_BYTES: usize = 1024;
/// `UBERBLOCK_MAGIC`, 0x00bab10c as a 64-bit number, in either byte order.
const UBERBLOCK_MAGIC: [u8; 8] = [0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0];

pub(super) fn zfs_labels(device_bytes: u64) -> Vec<u64> {
    let usable = device_bytes - device_bytes % ZFS_LABEL_BYTES;
    let labels = [
        Some(0),
        Some(ZFS_LABEL_BYTES),
        usable.checked_sub(2 * ZFS_LABEL_BYTES),
        usable.checked_sub(ZFS_LABEL_BYTES),
    ];
    labels
        .into_iter()
        .flatten()
        .filter(|label| label + ZFS_LABEL_BYTES <= usable)
        .collect()
}

pub(super) fn first_uberblock(ring: &[u8]) -> Option<u64> {
    let mut swapped = UBERBLOCK_MAGIC;
    swapped.reverse();
    let position = ring
        .chunks(UBERBLOCK_BYTES)
        .position(|block| block.starts_with(&UBERBLOCK_MAGIC) || block.starts_with(&swapped))?;
    Some((position * UBERBLOCK_BYTES) as u64)
}

/// The two magic bytes of ext are too weak: the block size (`s_log_block_size`, at most 64 KiB),
/// the revision (`s_rev_level`, 0 or 1) and the inode count must also be plausible.
pub(super) fn ext(head: &[u8]) -> bool {
    const SUPERBLOCK: usize = 1024;
    let number = |at: usize| le32(head, SUPERBLOCK + at);
    number(0x18).is_some_and(|log| log <= 6)
        && number(0x4c).is_some_and(|revision| revision <= 1)
        && number(0).is_some_and(|inodes| inodes > 0)
}

/// An external journal has the magic of ext, no inodes, and the feature `INCOMPAT_JOURNAL_DEV`.
pub(super) fn ext_journal(head: &[u8]) -> bool {
    const SUPERBLOCK: usize = 1024;
    const JOURNAL_DEVICE: u32 = 8;
    let number = |at: usize| le32(head, SUPERBLOCK + at);
    number(0x18).is_some_and(|log| log <= 6)
        && number(0x60).is_some_and(|features| features & JOURNAL_DEVICE != 0)
}

/// The name of an external log of XFS, which begins with the record written last.
pub(super) const XFS_LOG: &str = "XFS external log";

/// Returns the first record of an XFS log in the first 256 KiB: magic, version 1 or 2, a length,
/// and a format of 1 to 3.
pub(super) fn first_xfs_log(head: &[u8]) -> Option<u64> {
    const SECTOR: usize = 512;
    const LOOKED_AT: usize = 256 << 10;
    let is_record = |sector: &[u8]| {
        sector.starts_with(b"\xfe\xed\xba\xbe")
            && be32(sector, 8).is_some_and(|version| (1..=2).contains(&version))
            && be32(sector, 12).is_some_and(|len| len > 0)
            && be32(sector, 300).is_some_and(|format| (1..=3).contains(&format))
    };
    let looked = &head[..head.len().min(LOOKED_AT)];
    let number = looked.chunks_exact(SECTOR).position(is_record)?;
    Some((number * SECTOR) as u64)
}

/// The revision is 2, and the length after the magic is that of a superblock.
pub(super) fn nilfs(head: &[u8]) -> bool {
    le32(head, 1024) == Some(2) && le16(head, 1024 + 8).is_some_and(|len| (1..=1024).contains(&len))
}

/// Numbers of bitmap blocks: neither may be 0, and every inode has a bit.
fn minix(inodes: Option<u16>, inode_maps: Option<u16>, zone_maps: Option<u16>) -> bool {
    const BITS: u64 = 8192;
    let (Some(inodes), Some(inode_maps), Some(zone_maps)) = (inodes, inode_maps, zone_maps) else {
        return false;
    };
    inodes > 0 && zone_maps > 0 && u64::from(inode_maps) * BITS > u64::from(inodes)
}

pub(super) fn minix_little(head: &[u8]) -> bool {
    let number = |at: usize| le16(head, 1024 + at);
    minix(number(0), number(4), number(6))
}

pub(super) fn minix_big(head: &[u8]) -> bool {
    let number = |at: usize| le16(head, 1024 + at).map(u16::swap_bytes);
    minix(number(0), number(4), number(6))
}

/// Version 3: the number of inodes has 32 bits.
pub(super) fn minix_3(head: &[u8]) -> bool {
    let is_set = |at: usize| le16(head, 1024 + at).is_some_and(|number| number > 0);
    is_set(6) && is_set(8)
}

/// The size of an allocation block is a multiple of a sector.
pub(super) fn hfs(head: &[u8]) -> bool {
    be32(head, 1024 + 20).is_some_and(|bytes| bytes > 0 && bytes % 512 == 0)
}

/// Version 1, block type 0x10, checksum 1.
pub(super) fn file_vault(head: &[u8]) -> bool {
    le16(head, 8) == Some(1) && le16(head, 10) == Some(0x10) && le32(head, 90) == Some(1)
}

/// The driver descriptor comes first.
pub(super) fn apple_map(head: &[u8]) -> bool {
    head.starts_with(b"ER")
}

/// The XOR of all words of the sector is 0, in either byte order.
pub(super) fn sun_label(sector: &[u8]) -> bool {
    sector
        .chunks_exact(2)
        .fold(0, |sum, word| sum ^ u16::from_le_bytes([word[0], word[1]]))
        == 0
}

/// A used entry has flags 1 or 0x81, three letters or digits, and lies within the size stored
/// before it.
pub(super) fn atari_table(head: &[u8]) -> bool {
    let (Some(entries), Some(sectors)) = (head.get(0x1c6..0x1f6), be32(head, 0x1c2)) else {
        return false;
    };
    entries.chunks_exact(12).any(|entry| {
        let place = be32(entry, 4).zip(be32(entry, 8));
        entry[0] & 0x7f == 1
            && entry[1..4].iter().all(u8::is_ascii_alphanumeric)
            && place.is_some_and(|(first, count)| {
                count > 0 && first.checked_add(count).is_some_and(|end| end <= sectors)
            })
    })
}

/// The version is a small number.
pub(super) fn jmicron(sector: &[u8]) -> bool {
    sector.get(3).is_some_and(|major| (1..=9).contains(major))
}

/// A version up to 2, and a checksum over 50 bytes.
pub(super) fn via(sector: &[u8]) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    match (sector.get(..50), sector.get(50)) {
        (Some(bytes), Some(stored)) => bytes[2] <= 2 && sum(bytes) == *stored,
        _ => false,
    }
}

/// One of eight disks, and a checksum over the preceding words.
pub(super) fn silicon(sector: &[u8]) -> bool {
    const CHECKSUM: usize = 0x13e;
    let words = sector.get(..CHECKSUM).unwrap_or_default().chunks_exact(2);
    let sum = words.fold(0_u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
    });
    sector.get(0x116).is_some_and(|disk| *disk < 8)
        && le16(sector, CHECKSUM) == Some(sum.wrapping_neg())
}

/// Many boot sectors end with 0x55aa. A partition table also has four entries whose first byte is 0
/// or 0x80, and at least one with a type and a length.
pub(super) fn partition_table(head: &[u8]) -> bool {
    let Some(entries) = head.get(446..510) else {
        return false;
    };
    let mut used = false;
    for entry in entries.chunks_exact(16) {
        let (flag, kind) = (entry[0], entry[4]);
        if flag != 0 && flag != 0x80 {
            return false;
        }
        used |= kind != 0 && le32(entry, 12).is_some_and(|sectors| sectors > 0);
    }
    used
}

/// A boot sector of FAT or NTFS: 0x55aa at its end.
pub(super) fn boot_sector(head: &[u8]) -> bool {
    head.get(510..512) == Some(&[0x55, 0xaa])
}

/// A label of LVM2 has its type 24 bytes in.
macro_rules! lvm_at {
    ($name:ident, $sector:expr) => {
        pub(super) fn $name(head: &[u8]) -> bool {
            head.get($sector * 512 + 24..$sector * 512 + 32) == Some(b"LVM2 001")
        }
    };
}
lvm_at!(lvm_0, 0);
lvm_at!(lvm_1, 1);
lvm_at!(lvm_2, 2);
lvm_at!(lvm_3, 3);

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_le_bytes(bytes))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    le32(bytes, at).map(u32::swap_bytes)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}
