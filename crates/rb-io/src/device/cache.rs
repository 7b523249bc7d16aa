//! What the page cache holds of a device that is not read past it, and whether it may be believed.
//!
//! After a flush that failed Linux takes the pages that it could not write for written: they are clean, they are read, and
//! they are nowhere else. Who opens the device next, in whatever process, reads them, builds on them, flushes without an
//! error, and has lost them with the next loss of power. Nothing says so: the error was reported once, to those who had the file open.
//!
//! So nothing that is in the cache when a device is opened for writing is believed. All is flushed (what is dirty is not lost by
//! what follows), then dropped. The kernel drops what it can, which is no promise: a page that is mapped, or in use at this
//! moment, stays. So the cache is looked at afterwards, and what is still there is read and written again, which makes it dirty,
//! and flushed, which says whether it is on the device. After that a page was either not in the cache, so the next read of it comes
//! from the device, or it is on the device as it is in the cache.
//!
//! What the device itself has in a volatile cache is not settled by that. An opening for writing writes and flushes before it
//! acknowledges anything, and that flush covers what the device had been given before.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::Advice;

use super::access::Access;
use super::handle::Device;
use super::kind::DeviceKind;
use super::space::file_system;
use crate::sys::residency::resident;

/// Dropped and looked at together. Little time lies between the two, so what another reader of the file brings into the cache
/// meanwhile, and is written again although it need not be, is little too.
const WINDOW: u64 = 256 << 20;

/// Read and written again in one piece.
const PIECE: usize = 1 << 20;

/// File systems in memory: there is no device below the page cache, and no loss of power to survive.
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58F6;

impl Device {
    /// Makes sure that what is read from now on is on the device, whatever became of earlier flushes. Does nothing where
    /// I/O is direct. Answers in words if it could not be made sure.
    ///
    /// # Errors
    /// What was written before cannot be made durable.
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

    /// Drops what can be dropped, and answers what is still there.
    fn drop_cached(&self, offset: u64, bytes: u64) -> io::Result<Vec<Range<u64>>> {
        let len = std::num::NonZeroU64::new(bytes);
        rustix::fs::fadvise(&self.file, offset, len, Advice::DontNeed)?;
        resident(self.fd(), offset, bytes as usize)
    }

    /// Writes what the cache holds again.
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

    /// A file that is written through the page cache, all of it there; none where files are in memory.
    fn buffered(path: &Path) -> Option<Device> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).open(path);
        let file = file.unwrap();
        if matches!(file_system(&file), Some(TMPFS | RAMFS)) {
            // Said on standard error: this crate is below the kit that lists skips.
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

    /// What a failed flush leaves in the page cache, clean and nowhere else, was read by the next opening. Here the pages are
    /// clean because they were written: what can be seen is that they are gone.
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

    /// A page that somebody has mapped stays in the cache, whatever the kernel is asked.
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
