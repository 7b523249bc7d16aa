//! The signatures, one row each.

use super::checks;

/// Where magic bytes stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    Start(u64),
    /// Bytes before the end of the device.
    End(u64),
    /// Linux software RAID, metadata 0.90.
    Md090,
    /// Linux software RAID, metadata 1.0.
    Md10,
}

#[derive(Debug)]
pub(super) struct Probe {
    pub(super) name: &'static str,
    pub(super) at: At,
    pub(super) magic: &'static [u8],
    /// What else has to hold, given the start of the device.
    pub(super) check: Option<fn(&[u8]) -> bool>,
}

/// No magic is longer.
pub(super) const MAGIC_MAX: usize = 32;

const fn start(name: &'static str, offset: u64, magic: &'static [u8]) -> Probe {
    assert!(magic.len() <= MAGIC_MAX);
    Probe {
        name,
        at: At::Start(offset),
        magic,
        check: None,
    }
}

const fn end(name: &'static str, distance: u64, magic: &'static [u8]) -> Probe {
    assert!(magic.len() <= MAGIC_MAX);
    Probe {
        name,
        at: At::End(distance),
        magic,
        check: None,
    }
}

const fn checked(probe: Probe, check: fn(&[u8]) -> bool) -> Probe {
    Probe {
        check: Some(check),
        ..probe
    }
}

/// `MD_SB_MAGIC` 0xa92b4efc, little-endian since metadata 1.0, the writer's order before.
const MD_MAGIC: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
const MD_MAGIC_SWAPPED: &[u8] = &[0xa9, 0x2b, 0x4e, 0xfc];
const BCACHE_MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS_MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";

#[rustfmt::skip]
pub(super) const PROBES: &[Probe] = &[
    // Partition tables. A GPT has its header in the second and in the last logical block.
    start("GPT", 512, b"EFI PART"),
    start("GPT", 4096, b"EFI PART"),
    end("GPT", 512, b"EFI PART"),
    end("GPT", 4096, b"EFI PART"),
    checked(start("MBR partition table", 510, b"\x55\xaa"), checks::partition_table),

    // Linux file systems.
    checked(start("ext2/3/4", 1024 + 0x38, b"\x53\xef"), checks::ext),
    start("XFS", 0, b"XFSB"),
    // Superblock and mirrors: btrfs on-disk format, "Superblock".
    start("btrfs", (64 << 10) + 0x40, b"_BHRfS_M"),
    start("btrfs", (64 << 20) + 0x40, b"_BHRfS_M"),
    start("btrfs", (256 << 30) + 0x40, b"_BHRfS_M"),
    start("F2FS", 1024, b"\x10\x20\xf5\xf2"),
    start("F2FS", 4096 + 1024, b"\x10\x20\xf5\xf2"),
    start("bcachefs", 4096 + 0x18, BCACHEFS_MAGIC),
    start("EROFS", 1024, b"\xe2\xe1\xf5\xe0"),
    start("squashfs", 0, b"hsqs"),
    start("squashfs", 0, b"sqsh"),
    start("JFS", 32 << 10, b"JFS1"),
    start("ReiserFS", (64 << 10) + 0x34, b"ReIsEr"),
    start("NILFS2", 1024 + 6, b"\x34\x34\x00\x00"),
    start("GFS2", 64 << 10, b"\x01\x16\x19\x70"),
    start("OCFS2", 4096, b"OCFSV2"),
    start("cramfs", 0, b"\x45\x3d\xcd\x28"),

    // Other systems' file systems.
    checked(start("NTFS", 3, b"NTFS    "), checks::boot_sector),
    checked(start("exFAT", 3, b"EXFAT   "), checks::boot_sector),
    checked(start("FAT", 0x36, b"FAT12   "), checks::boot_sector),
    checked(start("FAT", 0x36, b"FAT16   "), checks::boot_sector),
    checked(start("FAT", 0x52, b"FAT32   "), checks::boot_sector),
    start("ReFS", 3, b"ReFS\0\0\0\0"),
    start("BitLocker", 3, b"-FVE-FS-"),
    start("ISO 9660", (32 << 10) + 1, b"CD001"),
    start("UDF", (32 << 10) + 1, b"BEA01"),
    start("APFS", 32, b"NXSB"),
    start("HFS+", 1024, b"H+\0\x04"),
    start("HFSX", 1024, b"HX\0\x05"),
    start("VMFS", 1 << 20, b"\x0d\xd0\x01\xc0"),
    start("UFS2", (64 << 10) + 0x55c, b"\x19\x01\x54\x19"),

    // Swap: at the end of the first page, whose size is the machine's.
    start("swap", 4096 - 10, b"SWAPSPACE2"),
    start("swap", 4096 - 10, b"SWAP-SPACE"),
    start("swap", 8192 - 10, b"SWAPSPACE2"),
    start("swap", 16384 - 10, b"SWAPSPACE2"),
    start("swap", 65536 - 10, b"SWAPSPACE2"),
    start("hibernation image", 4096 - 10, b"S1SUSPEND"),
    start("hibernation image", 4096 - 10, b"S2SUSPEND"),
    start("hibernation image", 4096 - 10, b"LINHIB0001"),

    // Encryption, volumes and RAID.
    start("LUKS", 0, b"LUKS\xba\xbe"),
    // LUKS2 On-Disk Format, 2.3: the second header stands at the size of the first.
    start("LUKS2 second header", 16 << 10, b"SKUL\xba\xbe"),
    start("LUKS2 second header", 32 << 10, b"SKUL\xba\xbe"),
    start("LUKS2 second header", 64 << 10, b"SKUL\xba\xbe"),
    start("LUKS2 second header", 128 << 10, b"SKUL\xba\xbe"),
    start("LUKS2 second header", 256 << 10, b"SKUL\xba\xbe"),
    start("LUKS2 second header", 512 << 10, b"SKUL\xba\xbe"),
    checked(start("LVM2", 0, b"LABELONE"), checks::lvm_0),
    checked(start("LVM2", 512, b"LABELONE"), checks::lvm_1),
    checked(start("LVM2", 1024, b"LABELONE"), checks::lvm_2),
    checked(start("LVM2", 1536, b"LABELONE"), checks::lvm_3),
    start("md RAID 1.1", 0, MD_MAGIC),
    start("md RAID 1.2", 4096, MD_MAGIC),
    Probe { name: "md RAID 1.0", at: At::Md10, magic: MD_MAGIC, check: None },
    Probe { name: "md RAID 0.90", at: At::Md090, magic: MD_MAGIC, check: None },
    Probe { name: "md RAID 0.90", at: At::Md090, magic: MD_MAGIC_SWAPPED, check: None },
    end("Intel RAID", 1024, b"Intel Raid ISM Cfg Sig. "),
    end("DDF RAID", 512, b"\xde\x11\xde\x11"),
    start("bcache", 4096 + 0x18, BCACHE_MAGIC),
    start("dm-integrity", 0, b"integrt\0"),
    start("dm-verity", 0, b"verity\0\0"),
    start("VDO", 0, b"dmvdo001"),
    start("Stratis", 512, b"!Stra0tis\x86\xff\x02^\x41rh"),
    start("Stratis", 4096 + 512, b"!Stra0tis\x86\xff\x02^\x41rh"),

    // Storage daemons and disk images.
    start("Ceph BlueStore", 0, b"bluestore block device"),
    start("Oracle ASM", 32, b"ORCLDISK"),
    start("qcow2 image", 0, b"QFI\xfb"),
    start("VMDK image", 0, b"KDMV"),
    start("VHDX image", 0, b"vhdxfile"),
    start("VDI image", 0x40, b"\x7f\x10\xda\xbe"),
];
