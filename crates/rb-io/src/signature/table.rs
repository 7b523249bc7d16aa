//! The signatures, one row each.

use super::checks;

/// Position of magic bytes.
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
    /// The check in addition to the magic.
    pub(super) check: Check,
}

/// A condition in addition to the magic.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    None,
    /// On the start of the device.
    Head(fn(&[u8]) -> bool),
    /// On the 512-byte sector that contains the magic.
    Sector(fn(&[u8]) -> bool),
}

/// No magic is longer.
pub(super) const MAGIC_MAX: usize = 32;

const fn start(name: &'static str, offset: u64, magic: &'static [u8]) -> Probe {
    assert!(magic.len() <= MAGIC_MAX);
    Probe {
        name,
        at: At::Start(offset),
        magic,
        check: Check::None,
    }
}

const fn end(name: &'static str, distance: u64, magic: &'static [u8]) -> Probe {
    assert!(magic.len() <= MAGIC_MAX);
    Probe {
        name,
        at: At::End(distance),
        magic,
        check: Check::None,
    }
}

const fn checked(probe: Probe, check: fn(&[u8]) -> bool) -> Probe {
    Probe {
        check: Check::Head(check),
        ..probe
    }
}

const fn sector(probe: Probe, check: fn(&[u8]) -> bool) -> Probe {
    Probe {
        check: Check::Sector(check),
        ..probe
    }
}

/// `MD_SB_MAGIC` 0xa92b4efc, little-endian since metadata 1.0, the writer's byte order before.
const MD_MAGIC: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
const MD_MAGIC_SWAPPED: &[u8] = &[0xa9, 0x2b, 0x4e, 0xfc];
const BSD_LABEL: &[u8] = b"\x57\x45\x56\x82";
const PROMISE: &[u8] = b"Promise Technology, Inc.";
const BCACHE_MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81";
const BCACHEFS_MAGIC: &[u8] = b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef";

#[rustfmt::skip]
pub(super) const PROBES: &[Probe] = &[
    // Partition tables. A GPT has a header in the second and in the last logical block.
    start("GPT", 512, b"EFI PART"),
    start("GPT", 4096, b"EFI PART"),
    end("GPT", 512, b"EFI PART"),
    end("GPT", 4096, b"EFI PART"),
    checked(start("MBR partition table", 510, b"\x55\xaa"), checks::partition_table),
    start("BSD disk label", 64, BSD_LABEL),
    start("BSD disk label", 128, BSD_LABEL),
    start("BSD disk label", 512, BSD_LABEL),
    checked(start("Apple partition map", 512, b"PM\0\0"), checks::apple_map),
    start("SGI disk label", 0, b"\x0b\xe5\xa9\x41"),
    sector(start("Sun disk label", 508, b"\xda\xbe"), checks::sun_label),
    start("AIX disk label", 0, b"\xc9\xc2\xd4\xc1"),
    start("Ultrix disk label", 16384 - 72, b"\x57\x29\x03\x00"),
    // It has no magic: its four entries must be plausible.
    checked(start("Atari partition table", 0x1c6, b""), checks::atari_table),
    // The label of a DASD is in its third block, in EBCDIC.
    start("DASD label", 1024 + 4, b"\xe5\xd6\xd3\xf1"),
    start("DASD label", 2048 + 4, b"\xe5\xd6\xd3\xf1"),
    start("DASD label", 4096 + 4, b"\xe5\xd6\xd3\xf1"),
    start("DASD label", 8192 + 4, b"\xe5\xd6\xd3\xf1"),
    start("DASD label", 1024, b"\xd3\xd5\xe7\xf1"),
    start("DASD label", 4096, b"\xd3\xd5\xe7\xf1"),
    start("DASD label", 8192, b"\xd3\xd5\xe7\xf1"),
    start("DASD label", 1024, b"\xc3\xd4\xe2\xf1"),
    start("DASD label", 4096, b"\xc3\xd4\xe2\xf1"),

    // Linux file systems.
    checked(start("ext2/3/4", 1024 + 0x38, b"\x53\xef"), checks::ext),
    checked(start("ext external journal", 1024 + 0x38, b"\x53\xef"), checks::ext_journal),
    start("XFS", 0, b"XFSB"),
    start("Extended File System", 0, b"EXFS"),
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
    start("ReiserFS", (8 << 10) + 0x34, b"ReIsEr"),
    start("Reiser4", 64 << 10, b"ReIsEr4"),
    // The two bytes after the magic are the superblock's length.
    checked(start("NILFS2", 1024 + 6, b"\x34\x34"), checks::nilfs),
    start("GFS2", 64 << 10, b"\x01\x16\x19\x70"),
    // In the third block, of 512 to 4096 bytes.
    start("OCFS2", 1024, b"OCFSV2"),
    start("OCFS2", 2048, b"OCFSV2"),
    start("OCFS2", 4096, b"OCFSV2"),
    start("OCFS2", 8192, b"OCFSV2"),
    start("OCFS", 8, b"OracleCFS"),
    start("cramfs", 0, b"\x45\x3d\xcd\x28"),
    start("cramfs", 0, b"\x28\xcd\x3d\x45"),
    checked(start("minix", 1024 + 0x10, b"\x7f\x13"), checks::minix_little),
    checked(start("minix", 1024 + 0x10, b"\x8f\x13"), checks::minix_little),
    checked(start("minix", 1024 + 0x10, b"\x68\x24"), checks::minix_little),
    checked(start("minix", 1024 + 0x10, b"\x78\x24"), checks::minix_little),
    checked(start("minix", 1024 + 0x10, b"\x13\x7f"), checks::minix_big),
    checked(start("minix", 1024 + 0x10, b"\x13\x8f"), checks::minix_big),
    checked(start("minix", 1024 + 0x10, b"\x24\x68"), checks::minix_big),
    checked(start("minix", 1024 + 0x10, b"\x24\x78"), checks::minix_big),
    checked(start("minix", 1024 + 0x18, b"\x5a\x4d"), checks::minix_3),
    checked(start("minix", 1024 + 0x18, b"\x4d\x5a"), checks::minix_3),
    start("romfs", 0, b"-rom1fs-"),
    start("zonefs", 0, b"SFOZ"),
    start("UBI", 0, b"UBI#"),
    start("UBIFS", 0, b"\x31\x18\x10\x06"),
    start("ScoutFS", (64 << 10) + 4, b"\x8b\x42\x3c\x10"),
    start("mpool", 0, b"mpoolDev"),

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
    checked(start("HFS", 1024, b"BD"), checks::hfs),
    start("High Sierra", (32 << 10) + 9, b"CDROM"),
    start("HPFS", 8 << 10, b"\x49\xe8\x95\xf9"),
    start("BeFS", 32, b"BFS1"),
    start("BeFS", 32, b"1SFB"),
    start("BeFS", 512 + 32, b"BFS1"),
    start("BeFS", 512 + 32, b"1SFB"),
    start("BFS", 0, b"\xce\xfa\xad\x1b"),
    start("VxFS", 1024, b"\xf5\xfc\x01\xa5"),
    start("VxFS", 8192, b"\xa5\x01\xfc\xf5"),
    start("NetWare", 4096, b"SPB5"),
    start("Xenix", 2048, b"\x2b\x55\x44"),
    start("Xenix", 2048, b"\x44\x55\x2b"),
    // In the second half of a block of 1 KiB, of which there are four.
    start("System V", 512 + 504, b"\x20\x7e\x18\xfd"),
    start("System V", 512 + 504, b"\xfd\x18\x7e\x20"),
    start("System V", (9 << 10) + 512 + 504, b"\x20\x7e\x18\xfd"),
    start("System V", (9 << 10) + 512 + 504, b"\xfd\x18\x7e\x20"),
    start("System V", (15 << 10) + 512 + 504, b"\x20\x7e\x18\xfd"),
    start("System V", (15 << 10) + 512 + 504, b"\xfd\x18\x7e\x20"),
    start("System V", (18 << 10) + 512 + 504, b"\x20\x7e\x18\xfd"),
    start("System V", (18 << 10) + 512 + 504, b"\xfd\x18\x7e\x20"),
    start("HFS+", 1024, b"H+\0\x04"),
    start("HFSX", 1024, b"HX\0\x05"),
    start("VMFS", 1 << 20, b"\x0d\xd0\x01\xc0"),
    start("VMFS", 2 << 20, b"\x5e\xf1\xab\x2f"),
    start("UFS2", (64 << 10) + 0x55c, b"\x19\x01\x54\x19"),
    start("UFS2", (64 << 10) + 0x55c, b"\x19\x54\x01\x19"),
    start("UFS2", (256 << 10) + 0x55c, b"\x19\x01\x54\x19"),
    start("UFS2", (256 << 10) + 0x55c, b"\x19\x54\x01\x19"),
    start("UFS2", (8 << 10) + 0x55c, b"\x19\x01\x54\x19"),
    start("UFS2", (8 << 10) + 0x55c, b"\x19\x54\x01\x19"),
    start("UFS", 0x55c, b"\x54\x19\x01\x00"),
    start("UFS", 0x55c, b"\x00\x01\x19\x54"),
    start("UFS", (8 << 10) + 0x55c, b"\x54\x19\x01\x00"),
    start("UFS", (8 << 10) + 0x55c, b"\x00\x01\x19\x54"),
    start("UFS", (64 << 10) + 0x55c, b"\x54\x19\x01\x00"),
    start("UFS", (64 << 10) + 0x55c, b"\x00\x01\x19\x54"),

    // Swap: at the end of the first page, whose size depends on the machine.
    start("swap", 4096 - 10, b"SWAPSPACE2"),
    start("swap", 4096 - 10, b"SWAP-SPACE"),
    start("swap", 8192 - 10, b"SWAPSPACE2"),
    start("swap", 16384 - 10, b"SWAPSPACE2"),
    start("swap", 65536 - 10, b"SWAPSPACE2"),
    start("hibernation image", 4096 - 10, b"S1SUSPEND"),
    start("hibernation image", 4096 - 10, b"S2SUSPEND"),
    start("hibernation image", 4096 - 10, b"LINHIB0001"),
    start("hibernation image", 4096 - 10, b"ULSUSPEND"),
    start("hibernation image", 4096 - 10, b"\xed\xc3\x02\xe9\x98\x56\xe5\x0c"),

    // Encryption, volumes and RAID.
    start("LUKS", 0, b"LUKS\xba\xbe"),
    // LUKS2 On-Disk Format, 2.3: the offset of the second header equals the size of the first.
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
    Probe { name: "md RAID 1.0", at: At::Md10, magic: MD_MAGIC, check: Check::None },
    Probe { name: "md RAID 0.90", at: At::Md090, magic: MD_MAGIC, check: Check::None },
    Probe { name: "md RAID 0.90", at: At::Md090, magic: MD_MAGIC_SWAPPED, check: Check::None },
    start("LVM1", 0, b"HM\x01\0"),
    start("LVM1", 0, b"HM\x02\0"),
    start("LVM snapshot", 0, b"SnAp"),
    checked(start("FileVault", 88, b"CS"), checks::file_vault),
    end("DRBD", 4096 - 60, b"\x83\x74\x02\x6b"),
    end("DRBD", 4096 - 60, b"\x83\x74\x02\x6c"),
    end("DRBD", 4096 - 60, b"\x83\x74\x02\x6d"),
    start("DRBD control volume", 0, b"$DRBDmgr=q"),
    end("Intel RAID", 1024, b"Intel Raid ISM Cfg Sig. "),
    end("DDF RAID", 512, b"\xde\x11\xde\x11"),
    end("DDF RAID", 257 * 512, b"\xde\x11\xde\x11"),
    end("Adaptec RAID", 512, b"\x37\xfc\x4d\x1e"),
    end("LSI RAID", 512, b"$XIDE$"),
    end("NVIDIA RAID", 1024, b"NVIDIA"),
    sector(end("JMicron RAID", 512, b"JM"), checks::jmicron),
    sector(end("VIA RAID", 512, b"\x55\xaa"), checks::via),
    sector(end("Silicon Image RAID", 512 - 0x60, b"\0\0\0\x2f"), checks::silicon),
    start("HighPoint RAID", 9 * 512 + 32, b"\xf0\x16\x78\x5a"),
    start("HighPoint RAID", 9 * 512 + 32, b"\xfd\x16\x78\x5a"),
    end("HighPoint RAID", 11 * 512, b"\xf3\x16\x78\x5a"),
    end("HighPoint RAID", 11 * 512, b"\xfd\x16\x78\x5a"),
    end("Promise RAID", 63 * 512, PROMISE),
    end("Promise RAID", 255 * 512, PROMISE),
    end("Promise RAID", 256 * 512, PROMISE),
    end("Promise RAID", 16 * 512, PROMISE),
    end("Promise RAID", 399 * 512, PROMISE),
    end("Promise RAID", 591 * 512, PROMISE),
    end("Promise RAID", 675 * 512, PROMISE),
    end("Promise RAID", 735 * 512, PROMISE),
    end("Promise RAID", 911 * 512, PROMISE),
    end("Promise RAID", 951 * 512, PROMISE),
    end("Promise RAID", 974 * 512, PROMISE),
    end("Promise RAID", 991 * 512, PROMISE),
    end("Promise RAID", 3087 * 512, PROMISE),
    start("bcache", 4096 + 0x18, BCACHE_MAGIC),
    start("dm-integrity", 0, b"integrt\0"),
    start("dm-verity", 0, b"verity\0\0"),
    start("VDO", 0, b"dmvdo001"),
    start("Stratis", 512, b"!Stra0tis\x86\xff\x02^\x41rh"),
    start("Stratis", 4096 + 512, b"!Stra0tis\x86\xff\x02^\x41rh"),

    // Storage daemons and disk images.
    start("Ceph BlueStore", 0, b"bluestore block device"),
    start("Oracle ASM", 32, b"ORCLDISK"),
    start("OpenSVC heartbeat", 4, b"\x3d\xc1\x3c\x87\xc0\x5b\xe3\xb6"),
    start("qcow2 image", 0, b"QFI\xfb"),
    start("VMDK image", 0, b"KDMV"),
    start("VHDX image", 0, b"vhdxfile"),
    start("VDI image", 0x40, b"\x7f\x10\xda\xbe"),
];
