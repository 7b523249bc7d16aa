//! Space in the file system under a file: reserves it, and detects missing space.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FallocateFlags, IFlags, SeekFrom};
use rustix::io::Errno;

use super::handle::Device;
use super::kind::DeviceKind;
use crate::error::{OpenError, failed};

/// File systems that write new data of existing blocks to another place: allocated space does not
/// guarantee space for the next write.
const BTRFS: i64 = 0x9123_683E;
const BCACHEFS: i64 = 0xCA45_1A4E;
const ZFS: i64 = 0x2FC1_2FC1;

impl Device {
    /// Reserves space for ranges of a file, so that writing them does not fail later on a full file
    /// system. Existing data is kept. Returns false if the file system has no `fallocate`, or if
    /// the device is not a file.
    ///
    /// The space is reserved but unwritten; file systems that track this (ext4, XFS) also reserve
    /// the metadata needed to mark it written.
    ///
    /// # Errors
    /// There is no space, or a system call failed.
    pub fn allocate(&self, ranges: &[Range<u64>]) -> Result<bool, OpenError> {
        let mut reserved = self.kind == DeviceKind::File;
        for range in ranges {
            reserved = reserved
                && reserve(&self.file, range)
                    .map_err(|source| failed(&self.path, "fallocate", source))?;
        }
        Ok(reserved)
    }

    /// Returns whether a range of a file has parts without space. Reserved space that was never
    /// written may count as missing; a file system that cannot report holes has none. A file that
    /// has as many blocks as its length needs counts as complete, although a few of them may hold
    /// the file system's own tree: `SEEK_HOLE` walks all of a full store, on tmpfs at 50 ns per
    /// page.
    ///
    /// # Errors
    /// A system call failed.
    pub fn has_holes(&self, ranges: &[Range<u64>]) -> io::Result<bool> {
        if self.kind != DeviceKind::File {
            return Ok(false);
        }
        let file = self.file.metadata()?;
        if file.blocks() * 512 >= file.size() {
            return Ok(false);
        }
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            // No request uses the file position.
            match rustix::fs::seek(&self.file, SeekFrom::Hole(range.start)) {
                Ok(hole) if hole < range.end => return Ok(true),
                Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                // The range begins past the end of the file.
                Err(Errno::NXIO) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Returns the first offset from `from` on that may hold data; `None` if only holes follow. Reserved space that was
    /// never written is a hole. A device, or a file system that cannot report holes, may hold data everywhere.
    ///
    /// # Errors
    /// A system call failed.
    pub fn next_data(&self, from: u64) -> io::Result<Option<u64>> {
        if self.kind != DeviceKind::File {
            return Ok((from < self.capacity_bytes).then_some(from));
        }
        // No request uses the file position.
        match rustix::fs::seek(&self.file, SeekFrom::Data(from)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                Ok((from < self.file.metadata()?.len()).then_some(from))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns a message if overwriting existing data takes additional space.
    #[must_use]
    pub fn copies_on_write(&self) -> Option<String> {
        if self.kind != DeviceKind::File {
            return None;
        }
        copies_on_write(&self.file, file_system(&self.file)?)
    }
}

/// Reserves one range; returns false if the file system cannot.
pub(super) fn reserve(file: &File, range: &Range<u64>) -> io::Result<bool> {
    let bytes = range.end.saturating_sub(range.start);
    if bytes == 0 {
        return Ok(true);
    }
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, range.start, bytes) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Marks an empty file for in-place writes, on file systems that otherwise copy on write; this is
/// only possible while the file is empty. Best effort: [`Device::copies_on_write`] reports whether
/// it took effect.
pub(super) fn write_in_place(file: &File) {
    if let Some(file_system) = file_system(file) {
        ask_for_writes_in_place(file, file_system);
    }
}

fn ask_for_writes_in_place(file: &File, file_system: i64) {
    if file_system == BTRFS
        && let Ok(flags) = rustix::fs::ioctl_getflags(file)
    {
        let _ = rustix::fs::ioctl_setflags(file, flags | IFlags::NOCOW);
    }
}

fn copies_on_write(file: &File, file_system: i64) -> Option<String> {
    let name = match file_system {
        BTRFS => {
            let flags = rustix::fs::ioctl_getflags(file);
            if flags.is_ok_and(|flags| flags.contains(IFlags::NOCOW)) {
                return None;
            }
            "btrfs, without the attribute NOCOW, which only an empty file takes (chattr +C)"
        }
        BCACHEFS => "bcachefs",
        ZFS => "ZFS",
        _ => return None,
    };
    Some(format!(
        "the file system copies on write ({name}): each write takes new space before it gives the old one back, so writes may fail when it is full although the file is allocated, and the file may take up to twice its size"
    ))
}

/// Returns the type of the file system that contains a file (`f_type` of statfs).
pub(super) fn file_system(file: &File) -> Option<i64> {
    let found = rustix::fs::fstatfs(file).ok()?;
    // The value has 32 bits, although the C type may be wider; otherwise ZFS and btrfs would be
    // negative on some targets.
    Some(i64::from(found.f_type as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const EXT4: i64 = 0xEF53;

    /// No btrfs is available in tests, so the file system type is passed in. The ioctl is real;
    /// other file systems refuse it or, like ext4, accept and ignore it.
    #[test]
    fn copy_on_write_is_reported() {
        let file = tempfile::tempfile().unwrap();
        for (file_system, words) in [(BCACHEFS, "bcachefs"), (ZFS, "ZFS"), (BTRFS, "chattr +C")] {
            let why = copies_on_write(&file, file_system).unwrap();
            assert!(why.contains(words) && why.contains("twice"), "{why}");
        }
        assert_eq!(copies_on_write(&file, EXT4), None);
        assert_eq!(copies_on_write(&file, 0x0102_1994), None);
        ask_for_writes_in_place(&file, EXT4);
        let before = rustix::fs::ioctl_getflags(&file);
        assert!(!before.is_ok_and(|flags| flags.contains(IFlags::NOCOW)));
        // Harmless if refused.
        ask_for_writes_in_place(&file, BTRFS);
        let taken = rustix::fs::ioctl_getflags(&file);
        let taken = taken.is_ok_and(|flags| flags.contains(IFlags::NOCOW));
        assert_eq!(copies_on_write(&file, BTRFS).is_none(), taken);
    }

    #[test]
    fn a_range_is_reserved_and_the_rest_stays_a_hole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("device");
        let device = Device::create_file(&path, 8 << 20, false).unwrap();
        let ranges = [0..1 << 20, 6 << 20..8 << 20];
        assert!(device.has_holes(&ranges).unwrap());
        assert!(device.allocate(&ranges).unwrap(), "no fallocate here");
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(meta.len(), 8 << 20);
        let taken = meta.blocks() * 512;
        assert!((3 << 20..4 << 20).contains(&taken), "{taken} bytes");
        let ours: &File = &device.file;
        assert!(file_system(ours).is_some_and(|kind| kind > 0));
    }
}
