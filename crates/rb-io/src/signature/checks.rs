//! What takes more than comparing bytes: weak magics, and ZFS.

/// The name of ZFS labels, which are wiped as a whole.
pub(super) const ZFS: &str = "ZFS label";
/// ZFS On-Disk Specification, section 1.2: four labels of 256 KiB, two at either end; the
/// uberblocks fill the second half of each.
pub(super) const ZFS_LABEL_BYTES: u64 = 256 << 10;
pub(super) const ZFS_RING_START: u64 = 128 << 10;
pub(super) const ZFS_RING_BYTES: u64 = 128 << 10;
/// Uberblocks are 1 KiB apart at least.
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

/// The two bytes of ext are too few: the block size (`s_log_block_size`, at most 64 KiB), the
/// revision (`s_rev_level`, 0 or 1) and a count of inodes must make sense too.
pub(super) fn ext(head: &[u8]) -> bool {
    const SUPERBLOCK: usize = 1024;
    let number = |at: usize| le32(head, SUPERBLOCK + at);
    number(0x18).is_some_and(|log| log <= 6)
        && number(0x4c).is_some_and(|revision| revision <= 1)
        && number(0).is_some_and(|inodes| inodes > 0)
}

/// 0x55aa ends many boot sectors: a partition table has four entries whose first byte is 0 or
/// 0x80, and at least one with a type and a length.
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

/// A boot sector as FAT and NTFS have it: 0x55aa at its end.
pub(super) fn boot_sector(head: &[u8]) -> bool {
    head.get(510..512) == Some(&[0x55, 0xaa])
}

/// A label of LVM2 names its kind 24 bytes in.
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

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}
