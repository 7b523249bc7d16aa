//! Handling of the page cache for devices opened without `O_DIRECT`: which cached pages can be
//! trusted.
//!
//! After a failed flush Linux marks the pages that it could not write as clean: they can be read,
//! but they exist only in memory. The next process that opens the device reads them, builds on
//! them, flushes without an error, and loses them at the next power failure. The error was reported
//! once, to those who had the file open.
//!
//! So nothing that is cached when a device is opened for writing is trusted. Everything is flushed
//! first (dirty pages survive the next step), then dropped. Dropping is best effort: a page that is
//! mapped or in use stays. So the cache is inspected afterwards, and pages still present are read
//! and written again, which makes them dirty, and flushed, which reports whether they reached the
//! device. After that a page is either not cached, so the next read comes from the device, or the
//! device holds the same bytes as the cache.
//!
//! The volatile cache of the device itself is not covered by this. A store opened for writing
//! writes and flushes before it acknowledges anything, and that flush covers everything the device
//! had received before.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::Advice;

use super::access::Access;
use super::handle::Device;
use super::kind::DeviceKind;
use super::space::file_system;
use crate::sys::residency::resident;

/// Bytes that are dropped and inspected in one step. A small window leaves little time for other
/// readers of the file to bring pages back, which would then be rewritten unnecessarily.
const WINDOW: u64 = 256 << 20;

/// Bytes that are read and rewritten in one piece.
const PIECE: usize = 1 << 20;

/// File systems in memory: there is no device below the page cache, and no power failure to
/// survive.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58F6;

impl Device {
    /// Makes sure that everything read from now on is on the device, regardless of earlier failed
    /// flushes. Does nothing for direct I/O. Returns a message if this could not be guaranteed.
    ///
    /// # Errors
    /// Data written earlier cannot be made durable.
    pub fn distrust_cache(&self) -> io::Result<Option<String>> {
        let cached = matches!(self.kind, DeviceKind::File | DeviceKind::Block) && !self.direct;
        if !cached || matches!(file_system(&self.file), Some(TMPFS | RAMFS)) {
            return Ok(None);
        }
        rustix::fs::fdatasync(&self.file)?;
        let mut rewritten = false;
        for offset in (0..self.capacity_bytes).step_by(WINDOW as usize) {
            let bytes = WINDOW.min(self.capacity_bytes - offset);
            match self.drop_cached(offset, bytes) {
                Ok(left) if left.is_empty() => {}
                Ok(left) if self.access == Access::ReadWrite => {
                    left.into_iter().try_for_each(|left| self.rewrite(left))?;
                    rewritten = true;
                }
                Ok(_) => return Ok(Some("pages of it stay in the page cache".into())),
                Err(error) => {
                    return Ok(Some(format!(
                        "what the page cache holds of it cannot be found out: {error}"
                    )));
                }
            }
        }
        if rewritten {
            rustix::fs::fdatasync(&self.file)?;
        }
        Ok(None)
    }

    /// Drops cached pages where possible and returns the ranges that are still cached.
    fn drop_cached(&self, offset: u64, bytes: u64) -> io::Result<Vec<Range<u64>>> {
        let len = std::num::NonZeroU64::new(bytes);
        rustix::fs::fadvise(&self.file, offset, len, Advice::DontNeed)?;
        resident(self.fd(), offset, bytes as usize)
    }

    /// Rewrites the cached bytes of a range.
    fn rewrite(&self, range: Range<u64>) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        for at in range.clone().step_by(PIECE) {
            let piece = &mut buffer[..(range.end - at).min(PIECE as u64) as usize];
            self.file.read_exact_at(piece, at)?;
            self.file.write_all_at(piece, at)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::Duration;

    use super::super::open::finish;
    use super::*;
    use crate::sys::residency::Mapped;

    const BYTES: usize = 3 << 20;

    /// Creates a file written through the page cache and fully cached; `None` if files are in
    /// memory.
    fn buffered(path: &Path) -> Option<Device> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).open(path);
        let file = file.unwrap();
        if matches!(file_system(&file), Some(TMPFS | RAMFS)) {
            // Printed to standard error: the crate that lists skips depends on this one.
            eprintln!("skipped: {} is in memory", path.display());
            return None;
        }
        file.write_all_at(&vec![7; BYTES], 0).unwrap();
        let refused = Err(io::Error::from_raw_os_error(libc::EINVAL));
        let access = Access::ReadWrite;
        Some(finish(path, file, DeviceKind::File, access, refused).unwrap())
    }

    fn changed(path: &Path) -> std::time::SystemTime {
        std::fs::metadata(path).unwrap().modified().unwrap()
    }

    /// Clean pages left by a failed flush, present nowhere but in the page cache, were read by the
    /// next opener. Here the pages are clean because they were written; the test checks that they
    /// are dropped.
    #[test]
    fn what_is_cached_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("device");
        let Some(device) = buffered(&path) else {
            return;
        };
        assert!(!device.direct());
        let cached = || {
            let pieces = resident(device.fd(), 0, BYTES).unwrap();
            pieces
                .iter()
                .map(|piece| piece.end - piece.start)
                .sum::<u64>()
        };
        assert_eq!(cached(), BYTES as u64);
        let before = changed(&path);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(device.distrust_cache().unwrap(), None);
        assert_eq!(cached(), 0);
        assert_eq!(changed(&path), before, "nothing had to be written again");
        assert_eq!(std::fs::read(&path).unwrap(), vec![7; BYTES]);
    }

    /// A mapped page stays in the cache even if the kernel is asked to drop it.
    #[test]
    fn what_cannot_be_dropped_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("device");
        let Some(device) = buffered(&path) else {
            return;
        };
        let mapped = Mapped::new(device.file.as_fd(), BYTES / 2).unwrap();
        let before = changed(&path);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(device.distrust_cache().unwrap(), None);
        let left = resident(device.fd(), 0, BYTES).unwrap();
        assert!(left.iter().any(|left| left.start == 0), "{left:?}");
        assert!(changed(&path) > before, "it was believed");
        assert_eq!(std::fs::read(&path).unwrap(), vec![7; BYTES]);
        drop(mapped);
    }

    #[test]
    fn direct_files_have_nothing_to_drop() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().write_all_at(&vec![7; BYTES], 0).unwrap();
        let device = Device::open(file.path(), Access::ReadWrite).unwrap();
        assert_eq!(device.distrust_cache().unwrap(), None);
        if device.direct() {
            let left = resident(file.as_file().as_fd(), 0, BYTES).unwrap();
            assert_ne!(left, [], "a direct file was gone through");
        }
    }
}
