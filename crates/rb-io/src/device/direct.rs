//! Direct I/O: sets `O_DIRECT`, verifies that it works, and derives the limits.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::access::Access;
use super::discover;
use super::kind::DeviceKind;
use crate::arena::Arena;
use crate::engine::Feature;
use crate::error::{OpenError, failed};
use crate::limits::{Limit, Limits};

/// Decides whether I/O is direct and adds the decision to the report.
pub(super) fn settle_direct(
    path: &Path,
    file: &File,
    kind: DeviceKind,
    bytes: u64,
    direct: io::Result<()>,
    report: &mut Vec<Feature>,
) -> Result<bool, OpenError> {
    const NAME: &str = "direct I/O";
    report.retain(|feature| feature.name != NAME);
    let alignment = discover::direct_alignment(file);
    let why = match too_coarse(kind, alignment) {
        Some(why) => why,
        None => match direct.and_then(|()| verify_direct(file, kind, bytes)) {
            Ok(()) => {
                report.push(Feature::on(NAME, "O_DIRECT"));
                return Ok(true);
            }
            Err(error) => format!("O_DIRECT refused, I/O goes through the page cache: {error}"),
        },
    };
    clear_direct(file).map_err(|source| failed(path, "clear O_DIRECT", source))?;
    report.push(Feature::off(NAME, why));
    Ok(false)
}

/// Returns why direct I/O is not used for a file although its file system supports it. The page
/// cache accepts smaller writes: it fills the rest of a block from the file. That is safe for a
/// file, because no other host writes part of it. On a device, the cache would hide other hosts'
/// writes from this host, and the block size of the device would stay the same.
fn too_coarse(kind: DeviceKind, alignment: Option<(Limit<u32>, Limit<u32>)>) -> Option<String> {
    let (memory, offset) = alignment.filter(|_| kind == DeviceKind::File)?;
    let coarsest = match memory.value > offset.value {
        true => memory,
        false => offset,
    };
    let Limit { value, source } = coarsest;
    (value > FILE_ALIGN_MAX).then(|| {
        format!(
            "I/O goes through the page cache: past it, this file system takes multiples of {value} bytes only ({source}), more than {FILE_ALIGN_MAX}"
        )
    })
}

/// A file that needs a larger alignment for direct I/O is opened buffered: store blocks and pages
/// have this size.
const FILE_ALIGN_MAX: u32 = 4096;

pub(super) fn limits(
    path: &Path,
    file: &File,
    kind: DeviceKind,
    direct: bool,
) -> Result<Limits, OpenError> {
    let limits = discover::limits(file, kind, direct)
        .map_err(|source| failed(path, "reading the limits", source))?;
    limits.validate().map_err(|reason| OpenError::Limits {
        path: path.into(),
        reason,
    })?;
    Ok(limits)
}

/// Opens with `O_DIRECT`, or without it if the file system refuses the flag immediately.
pub(super) fn open_direct(
    path: &Path,
    access: Access,
    flags: i32,
) -> io::Result<(File, Result<(), io::Error>)> {
    let open = |flags| {
        OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            .custom_flags(flags)
            .open(path)
    };
    match open(flags | libc::O_DIRECT) {
        Ok(file) => Ok((file, Ok(()))),
        Err(refused) if refused.raw_os_error() == Some(libc::EINVAL) => {
            Ok((open(flags)?, Err(refused)))
        }
        Err(error) => Err(error),
    }
}

/// Reads one block, because some file systems accept the flag and then refuse the I/O.
fn verify_direct(file: &File, kind: DeviceKind, bytes: u64) -> io::Result<()> {
    // A device with larger blocks refuses smaller reads, which would not show whether `O_DIRECT`
    // works.
    let block = match kind {
        DeviceKind::Block => rustix::fs::ioctl_blksszget(file)?,
        _ => 0,
    };
    let len = block.max(FILE_ALIGN_MAX) as usize;
    if bytes < len as u64 {
        return Ok(());
    }
    let arena = Arena::allocate(len).map_err(io::Error::other)?;
    let mut buffer = arena.take(len).ok_or(io::ErrorKind::OutOfMemory)?;
    match file.read_at(&mut buffer, 0) {
        // An unreadable first block does not show that `O_DIRECT` fails.
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

fn clear_direct(file: &File) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    Ok(rustix::fs::fcntl_setfl(file, flags - OFlags::DIRECT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alignment(memory: u32, offset: u32) -> Option<(Limit<u32>, Limit<u32>)> {
        let offset = Limit::new(offset, "statx dio_offset_align");
        Some((Limit::new(memory, "statx dio_mem_align"), offset))
    }

    /// Files on a file system with 16 KiB blocks were opened with `O_DIRECT`, which then refused
    /// every write of 4 KiB.
    #[test]
    fn a_file_with_a_coarse_alignment_goes_through_the_page_cache() {
        let why = |kind, memory, offset| too_coarse(kind, alignment(memory, offset));
        for offset in [8192, 16384, 65536] {
            let words = why(DeviceKind::File, 512, offset).unwrap();
            assert!(words.contains(&format!("multiples of {offset} bytes")));
            assert!(words.contains("dio_offset_align"), "{words}");
            assert_eq!(why(DeviceKind::Block, 512, offset), None);
        }
        let words = why(DeviceKind::File, 16384, 512).unwrap();
        assert!(words.contains("dio_mem_align"), "{words}");
        assert_eq!(why(DeviceKind::File, 4096, 4096), None);
        assert_eq!(too_coarse(DeviceKind::File, None), None);
    }
}
