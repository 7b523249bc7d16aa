// UNSAFETY: maps and unmaps memory, and takes over memory that the caller mapped.
#![expect(unsafe_code, reason = "mmap, munmap, madvise and adopted memory")]
//! The memory under an arena.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// x86-64 and most arm64 kernels: a huge page needs an address aligned to this size.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Page-aligned, initialised memory that nothing else hands out.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    source: Source,
}

enum Source {
    /// Mapped here: `start` and `bytes` of the whole mapping, which may begin before the aligned
    /// part that is used.
    Mapped { start: NonNull<u8>, bytes: usize },
    /// A mapped memory file, all of it.
    Shared { file: OwnedFd },
    /// Kept alive by its owner, which is dropped with the mapping.
    Adopted { _owner: Box<dyn Any + Send + Sync> },
}

// SAFETY: the memory is reachable only through `start`, and the arena's claims decide which code
// may access which range; the address itself may be sent and shared.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` exposes nothing but the address and the size.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `bytes` (a multiple of the page, not 0) of zeroed memory.
    pub(crate) fn anonymous(bytes: usize) -> io::Result<Self> {
        let slack = if bytes >= HUGE_PAGE_BYTES {
            HUGE_PAGE_BYTES
        } else {
            0
        };
        let whole = bytes.checked_add(slack).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no existing
        // memory.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                whole,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let source = Source::Mapped {
            start,
            bytes: whole,
        };
        if slack == 0 {
            return Ok(Self {
                start,
                bytes,
                source,
            });
        }
        let skip = start.as_ptr().align_offset(HUGE_PAGE_BYTES).min(slack);
        let aligned = start.as_ptr().wrapping_add(skip);
        // Miri does not support the call, which is only advice.
        if cfg!(not(miri)) {
            // SAFETY: `skip <= slack`, so the advised range lies inside the new mapping. A kernel
            // without huge pages refuses and uses small ones: slower, not wrong.
            let _ = unsafe { rustix::mm::madvise(aligned.cast(), bytes, Advice::LinuxHugepage) };
        }
        let start = NonNull::new(aligned).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            start,
            bytes,
            source,
        })
    }

    /// Maps `bytes` (a multiple of the page, not 0) of zeroed memory that another process can also
    /// map.
    pub(crate) fn shared(bytes: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("raw-block arena", flags)?;
        let too_large = |_| io::ErrorKind::OutOfMemory;
        rustix::fs::ftruncate(&file, u64::try_from(bytes).map_err(too_large)?)?;
        // Otherwise a process that receives the file could truncate it, and our next access would
        // raise SIGBUS.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping of a new file at an address of the kernel's choice touches no
        // existing memory.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                bytes,
                access,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        Ok(Self {
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            bytes,
            source: Source::Shared { file },
        })
    }

    /// Takes over memory that the caller mapped; `owner` is dropped with the mapping.
    ///
    /// # Safety
    /// The requirements of [`Arena::adopt`](crate::Arena::adopt), for the arena over this mapping.
    pub(super) unsafe fn adopted(
        start: NonNull<u8>,
        bytes: usize,
        owner: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            start,
            bytes,
            source: Source::Adopted { _owner: owner },
        }
    }

    /// Returns the file that backs the memory, if there is one.
    pub(crate) fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Shared { file } => Some(file.as_fd()),
            Source::Mapped { .. } | Source::Adopted { .. } => None,
        }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_adopted(&self) -> bool {
        matches!(self.source, Source::Adopted { .. })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let whole = match &self.source {
            Source::Mapped { start, bytes } => Some((*start, *bytes)),
            Source::Shared { .. } => Some((self.start, self.bytes)),
            Source::Adopted { .. } => None,
        };
        if let Some((start, bytes)) = whole {
            // SAFETY: this is exactly the range that was mapped, and with the arena and all of its
            // claims gone no address inside it is in use.
            let unmapped = unsafe { rustix::mm::munmap(start.as_ptr().cast(), bytes) };
            debug_assert!(unmapped.is_ok(), "munmap of {bytes} bytes: {unmapped:?}");
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("bytes", &self.bytes)
            .field("adopted", &self.is_adopted())
            .finish_non_exhaustive()
    }
}
