// UNSAFETY: requests carry addresses that a kernel or a server uses until their completion, and
// completions are read from memory that libblkio filled. The channel therefore owns the parts whose
// addresses it passed on.
#![expect(
    unsafe_code,
    reason = "completions are raw memory, descriptors are raw numbers"
)]
//! One libblkio queue, together with its in-flight table.
//!
//! The rule is that of the ring (`sys/ring.rs`): a request is queued only for a flight that was
//! moved into the table before, and a flight leaves the table only with its completion. A channel
//! dropped while flights are in it leaks them, together with the libblkio instance that may still
//! be working for them.

use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use blkio::{Blkioq, Completion, ReqFlags};

use super::libblkio::from_blkio;
use crate::blkio::driver::Driver;
use crate::blkio::flight::Flight;
use crate::flight::FlightTable;
use crate::process::Process;
use crate::request::OpKind;

/// Completions fetched in one call.
const FETCH: usize = 64;

pub(crate) struct Channel {
    /// Dropped before `driver`: its rings lie in memory that the driver mapped.
    queue: ManuallyDrop<Blkioq>,
    table: ManuallyDrop<FlightTable<Flight>>,
    driver: Arc<Driver>,
    process: Process,
}

impl Channel {
    /// Creates a channel for `depth` flights over `queue`, which must be one of `driver`'s. Also
    /// returns a descriptor that is readable when there may be completions.
    pub(crate) fn new(
        mut queue: Blkioq,
        driver: Arc<Driver>,
        depth: u32,
    ) -> io::Result<(Self, OwnedFd)> {
        let raw = queue.get_completion_fd();
        let raw = raw.ok_or_else(|| io::Error::other("a queue without a completion descriptor"))?;
        // SAFETY: the descriptor belongs to the queue and stays open as long as the queue.
        let fd = unsafe { BorrowedFd::borrow_raw(raw) };
        let completions = fd.try_clone_to_owned()?;
        queue.set_completion_fd_enabled(true);
        let channel = Self {
            queue: ManuallyDrop::new(queue),
            table: ManuallyDrop::new(FlightTable::new(depth)),
            driver,
            process: Process::current(),
        };
        Ok((channel, completions))
    }

    /// Returns whether this process created it; false in a forked child.
    pub(crate) fn is_here(&self) -> bool {
        self.process.is_current()
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.table.len()
    }

    /// Takes a flight and queues its request; returns the flight if the table is full. Its part
    /// must have passed [`Part::check`](crate::Part::check), and its bounce buffer, if any, must be
    /// as long as the part.
    pub(crate) fn push(&mut self, flight: Flight) -> Result<(), Box<Flight>> {
        debug_assert!(flight.part.check().is_ok());
        let name = self.table.insert(flight).map_err(Box::new)?;
        let Some(Flight { part, bounce, .. }) = self.table.get(name) else {
            return Ok(());
        };
        // The whole id must come back, so `usize` must not truncate it.
        const { assert!(usize::BITS == u64::BITS) };
        let (name, offset, len) = (name as usize, part.offset, part.len as usize);
        let own = part.buf.as_ref().map(|buf| (buf, part.buf_offset));
        let memory = bounce.as_ref().map(|bounce| (bounce, 0)).or(own);
        let address = memory.map_or(std::ptr::null_mut(), |(buf, at)| {
            buf.as_ptr().wrapping_add(at)
        });
        // These calls are safe functions of libblkio. They are sound because the addresses belong
        // to an `IoBuf` that the table keeps until the completion, and the range lies inside it.
        let flags = ReqFlags::empty();
        match part.op {
            OpKind::Read => self.queue.read(offset, address, len, name, flags),
            OpKind::Write => self.queue.write(offset, address, len, name, flags),
            OpKind::Flush => self.queue.flush(name, flags),
            OpKind::Discard => self.queue.discard(offset, len as u64, name, flags),
        }
        Ok(())
    }

    /// Starts pushed requests and passes completions to `each`. Does not block.
    ///
    /// # Errors
    /// An error of the driver, or a completion that matches nothing in flight.
    pub(crate) fn turn(&mut self, mut each: impl FnMut(Flight, io::Result<()>)) -> io::Result<()> {
        loop {
            let mut done = [const { MaybeUninit::<Completion>::uninit() }; FETCH];
            let count = self.queue.do_io(&mut done, 0, None, None);
            let count = count.map_err(|error| from_blkio(&error))?;
            for completion in done.iter().take(count) {
                // SAFETY: `do_io` has initialised as many completions as it returned.
                let completion = unsafe { completion.assume_init_ref() };
                let Some(flight) = self.table.remove(completion.user_data as u64) else {
                    let words = format!("completion of unknown {:#x}", completion.user_data);
                    return Err(io::Error::other(words));
                };
                each(flight, result_of(completion));
            }
            if count < FETCH {
                return Ok(());
            }
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if self.table.len() > 0 || !self.is_here() {
            // A kernel, a server or the parent of this forked child may still use the memory of
            // these flights, so it is never freed; neither are the queue, the rings and the mapped
            // arenas.
            std::mem::forget(Arc::clone(&self.driver));
            return;
        }
        // SAFETY: dropped only here, and nothing uses the field after its owner is dropped.
        unsafe { ManuallyDrop::drop(&mut self.queue) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.table) };
    }
}

fn result_of(completion: &Completion) -> io::Result<()> {
    if completion.ret == 0 {
        return Ok(());
    }
    // The libblkio message, if any, says less than the error number.
    Err(io::Error::from_raw_os_error(-completion.ret))
}
