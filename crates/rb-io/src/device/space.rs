//! Space in the file system under a file: reserved, or missing.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{FallocateFlags, IFlags, SeekFrom};
use rustix::io::Errno;

use super::handle::Device;
use super::kind::DeviceKind;
use crate::error::{OpenError, failed};

/// File systems that write what is overwritten to another place: space that a file has is no space for its next write.
const BTRFS: i64 = 0x9123_683E;
const BCACHEFS: i64 = 0xCA45_1A4E;
const ZFS: i64 = 0x2FC1_2FC1;

impl Device {
    /// Reserves space for ranges of a file, so that a write there needs none of a file system that is full by then. What is
    /// there stays. False if the file system has no fallocate, and of what is no file.
    ///
    /// The space is reserved and not yet written; file systems that tell the two apart (ext4, XFS) keep aside what they
    /// need to note that it is.
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

    /// Whether a range of a file has parts without space. Space that is reserved and was never written may count as
    /// missing, and a file system that does not know has no such parts. A file with as many blocks as its length needs
    /// has none either, although a few of them may hold the file system's own tree: `SEEK_HOLE` walks all of a full store, on
    /// tmpfs at 50 ns a page.
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
            // No request uses the position.
            match rustix::fs::seek(&self.file, SeekFrom::Hole(range.start)) {
                Ok(hole) if hole < range.end => return Ok(true),
                Ok(_) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                // It begins behind the end of the file.
                Err(Errno::NXIO) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Why writing over what a file holds takes more space all the same, in words, if that is so.
    #[must_use]
    pub fn copies_on_write(&self) -> Option<String> {
        if self.kind != DeviceKind::File {
            return None;
        }
        copies_on_write(&self.file, file_system(&self.file)?)
    }
}

/// Reserves one range; false if the file system cannot.
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

/// Has an empty file written in place where its file system copies on write unless it is asked not to, which it can be while the
/// file is empty only. Best effort: [`Device::copies_on_write`] reports whether it took effect.
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

/// The kind of the file system that a file is in (`f_type` of statfs).
pub(super) fn file_system(file: &File) -> Option<i64> {
    let found = rustix::fs::fstatfs(file).ok()?;
    // It has 32 bits whatever the type says; ZFS's and btrfs's would else be negative here and there.
    Some(i64::from(found.f_type as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const EXT4: i64 = 0xEF53;

    /// There is no btrfs here to ask, so the file system's kind is given. The ioctl is a real one, which other file systems
    /// refuse or, as ext4, take and do not heed.
    #[test]
    fn copy_on_write_is_said_in_words() {
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
        // Harmless where it is refused.
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
