// UNSAFETY: submission entries carry addresses that the kernel uses until their completion, and
// registering buffers pins memory. The ring therefore owns the parts whose addresses it passed on.
#![expect(
    unsafe_code,
    reason = "pushing submission entries and registering memory"
)]
//! The io_uring under a queue, together with its in-flight table.
//!
//! The rule that keeps it sound: an entry is pushed only for a part that was moved into the table
//! before, and a part leaves the table only with its completion. A ring dropped while parts are in
//! flight leaks them, so their memory is never reused.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::squeue::EntryMarker;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, cqueue, opcode, squeue};

use crate::arena::Arena;
use crate::device::Device;
use crate::flight::FlightTable;
use crate::request::Part;
use crate::sys::encode::{Encoder, Target};
use crate::sys::event::EventFd;

/// The `user_data` of the poll that waits for a waker; no index and generation equal it.
const WAKE: u64 = u64::MAX;
/// The `user_data` of requests to cancel, whose own results say nothing that is needed.
const CANCEL: u64 = u64::MAX - 1;

/// The kernel mode in which a ring runs completions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flavour {
    /// `SINGLE_ISSUER` and `DEFER_TASKRUN` (Linux 6.1): task work runs only when the owner requests
    /// it.
    Deferred,
    /// `COOP_TASKRUN` (Linux 5.19): the submitting thread is not interrupted.
    Cooperative,
    /// The features of Linux 5.11.
    Plain,
}

/// A range of an arena that is one registered buffer.
#[derive(Debug)]
pub(crate) struct Window {
    /// Index of the arena among those of the ring.
    pub(crate) arena: usize,
    /// First byte in the arena.
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

impl Window {
    /// Returns the memory of the window.
    ///
    /// # Errors
    /// There is no such arena, or it is smaller.
    fn iovec(&self, arenas: &[Arena]) -> io::Result<libc::iovec> {
        let end = self.offset.checked_add(self.len);
        match (arenas.get(self.arena), end) {
            (Some(arena), Some(end)) if end <= arena.bytes() => Ok(libc::iovec {
                iov_base: arena.as_ptr().wrapping_add(self.offset).cast(),
                iov_len: self.len,
            }),
            _ => Err(io::Error::other(format!("{self:?} is outside the arenas"))),
        }
    }
}

/// A completion.
pub(crate) enum Ended {
    Part(Part, io::Result<u32>),
    /// The poll on the waker's eventfd; `false` if it was cancelled and did not fire.
    Wake(bool),
}

pub(crate) struct Ring<E: Encoder> {
    ring: ManuallyDrop<IoUring<E::Submission, E::Completion>>,
    table: ManuallyDrop<FlightTable>,
    encoder: E,
    flavour: Flavour,
    /// A deferred ring starts disabled and belongs to the thread that enables it.
    enabled: bool,
    file_is_registered: bool,
    // The kernel uses both as long as the ring lives.
    device: Arc<Device>,
    registered: Vec<Arena>,
}

impl<E: Encoder> Ring<E> {
    /// Creates a ring for `depth` parts and one wake, with the first flavour that the kernel
    /// supports.
    pub(crate) fn new(
        depth: u32,
        wanted: &[Flavour],
        device: Arc<Device>,
        encoder: E,
    ) -> io::Result<Self> {
        let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
        for &flavour in wanted {
            match build(depth + 1, flavour) {
                Ok(ring) => {
                    return Ok(Self {
                        ring: ManuallyDrop::new(ring),
                        table: ManuallyDrop::new(FlightTable::new(depth)),
                        encoder,
                        flavour,
                        enabled: flavour != Flavour::Deferred,
                        file_is_registered: false,
                        device,
                        registered: Vec::new(),
                    });
                }
                // The kernel does not support one of the flags.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    pub(crate) fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Returns the names of required operations that the kernel lacks.
    pub(crate) fn missing(&self) -> io::Result<Vec<&'static str>> {
        let mut probe = Probe::new();
        self.ring.submitter().register_probe(&mut probe)?;
        let poll = (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD");
        let needed = E::NEEDED.iter().copied().chain([poll]);
        let mut missing: Vec<_> = needed
            .filter(|(code, _)| !probe.is_supported(*code))
            .map(|(_, name)| name)
            .collect();
        if !self.ring.params().is_feature_ext_arg() {
            missing.push("IORING_FEAT_EXT_ARG (waits with a timeout)");
        }
        if !self.ring.params().is_feature_nodrop() {
            missing.push("IORING_FEAT_NODROP (completions are never lost)");
        }
        Ok(missing)
    }

    /// Returns whether [`enter`](Self::enter) supports lingering; Linux 6.12.
    pub(crate) fn can_linger(&self) -> bool {
        self.ring.params().is_feature_min_timeout()
    }

    pub(crate) fn register_file(&mut self) -> io::Result<()> {
        let fd = self.device.fd().as_raw_fd();
        self.ring.submitter().register_files(&[fd])?;
        self.file_is_registered = true;
        Ok(())
    }

    /// Creates an empty table of `count` registered buffers for windows of `arenas`; Linux 5.19.
    pub(crate) fn register_sparse(&mut self, arenas: &[Arena], count: usize) -> io::Result<()> {
        let count = u32::try_from(count).map_err(io::Error::other)?;
        self.ring.submitter().register_buffers_sparse(count)?;
        self.registered = arenas.to_vec();
        Ok(())
    }

    /// Registers and pins all windows of `arenas` in one call.
    pub(crate) fn register_arenas(
        &mut self,
        arenas: &[Arena],
        windows: impl Iterator<Item = Window>,
    ) -> io::Result<()> {
        let pieces: Vec<_> = windows
            .map(|window| window.iovec(arenas))
            .collect::<io::Result<_>>()?;
        // SAFETY: the pieces lie inside the arenas' mappings, which `registered` keeps alive for as
        // long as the ring.
        unsafe { self.ring.submitter().register_buffers(&pieces) }?;
        self.registered = arenas.to_vec();
        Ok(())
    }

    /// Pins a window at `index` of the table made by [`register_sparse`](Self::register_sparse).
    pub(crate) fn pin(&mut self, index: u16, window: Window) -> io::Result<()> {
        let piece = [window.iovec(&self.registered)?];
        let submitter = self.ring.submitter();
        // SAFETY: the piece lies inside the mapping of an arena that `registered` keeps alive for
        // as long as the ring.
        unsafe { submitter.register_buffers_update(index.into(), &piece, None) }
    }

    /// Returns whether this process created it; false in a forked child.
    pub(crate) fn is_here(&self) -> bool {
        self.device.is_here()
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.table.len()
    }

    /// Returns the number of entries that the kernel has not taken yet.
    pub(crate) fn unsubmitted(&mut self) -> u32 {
        // The queue has at most 8192 entries.
        self.ring.submission().len() as u32
    }

    /// Returns whether the kernel has completions that only a call moves into the ring.
    pub(crate) fn has_deferred_work(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Returns why registered buffers do not work here, if they do not.
    pub(crate) fn refuses_registered(&self) -> Option<&str> {
        self.encoder.refuses_registered()
    }

    /// Prepares a part for [`push`](Self::push), or returns why it cannot be sent.
    pub(crate) fn prepare(&mut self, part: &mut Part) -> io::Result<()> {
        part.check()?;
        self.encoder.prepare(part)
    }

    /// Takes a part and queues its entry; `piece` is the registered buffer that contains its
    /// memory, if any. The part must have passed [`prepare`](Self::prepare).
    pub(crate) fn push(&mut self, part: Part, piece: Option<u16>) -> Result<(), Part> {
        if let Err(error) = part.check() {
            debug_assert!(false, "an unchecked part reached the ring: {error}");
            return Err(part);
        }
        let user_data = self.table.insert(part)?;
        let entry = self
            .table
            .get(user_data)
            .map(|part| self.encoder.entry(part, piece, self.target()));
        let pushed = entry.is_some_and(|mut entry| {
            entry.set_user_data(user_data);
            // SAFETY: the addresses in the entry belong to the part's `IoBuf`, as every `Encoder`
            // promises; the table keeps it until the completion, and `check` has verified that the
            // range lies inside it.
            unsafe { self.ring.submission().push(&entry) }.is_ok()
        });
        match self.table.get(user_data) {
            Some(_) if !pushed => match self.table.remove(user_data) {
                Some(part) => Err(part),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Queues requests to cancel parts, as many as there is room for, and returns their number.
    pub(crate) fn push_cancels(&mut self, wanted: impl Fn(&Part) -> bool) -> u32 {
        let mut pushed = 0;
        for name in self.table.names(wanted) {
            let entry: squeue::Entry = opcode::AsyncCancel::new(name).build();
            let entry = entry.user_data(CANCEL).into();
            // SAFETY: the entry has no memory. The part stays in the table until its own completion.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                break;
            }
            pushed += 1;
        }
        pushed
    }

    /// Queues a poll that completes when `event` is raised.
    pub(crate) fn push_wake(&mut self, event: &EventFd) -> bool {
        let entry: squeue::Entry =
            opcode::PollAdd::new(Fd(event.fd()), libc::POLLIN as u32).build();
        let entry = entry.user_data(WAKE).into();
        // SAFETY: a poll has no memory, and the kernel holds the file behind the descriptor.
        unsafe { self.ring.submission().push(&entry) }.is_ok()
    }

    /// Submits queued entries to the kernel and waits for `at_least` completions or for `timeout`.
    /// With `linger`, waits for all of them only that long, and then until there is at least one.
    /// Returns the number of entries taken.
    pub(crate) fn enter(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        linger: Option<Duration>,
    ) -> io::Result<u32> {
        if !self.enabled {
            // From here on the ring belongs to this thread.
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        let timespec = timeout.map(Timespec::from);
        let linger = linger.map_or(0, |linger| linger.subsec_micros());
        let submitter = self.ring.submitter();
        let at_least = at_least as usize;
        let taken = match &timespec {
            _ if at_least == 0 || (timespec.is_none() && linger == 0) => {
                submitter.submit_and_wait(at_least)
            }
            None => submitter.submit_with_args(at_least, &SubmitArgs::new().min_wait_usec(linger)),
            Some(timespec) => {
                let args = SubmitArgs::new().min_wait_usec(linger).timespec(timespec);
                submitter.submit_with_args(at_least, &args)
            }
        };
        match taken {
            Ok(taken) => Ok(taken as u32),
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Takes completions out of the ring.
    ///
    /// # Errors
    /// A completion that matches nothing in flight, or lost completions: either means that the
    /// table no longer describes the memory in use.
    pub(crate) fn pop_all(&mut self, mut ended: impl FnMut(Ended)) -> io::Result<()> {
        let completions = self.ring.completion();
        let overflow = completions.overflow();
        for completion in completions {
            let completion: cqueue::Entry = completion.into();
            let result = completion.result();
            if completion.user_data() == WAKE {
                ended(Ended::Wake(result >= 0));
                continue;
            }
            if completion.user_data() == CANCEL {
                continue;
            }
            let Some(mut part) = self.table.remove(completion.user_data()) else {
                let words = format!("completion of unknown {:#x}", completion.user_data());
                return Err(io::Error::other(words));
            };
            let moved = self.encoder.finish(&mut part, result);
            ended(Ended::Part(part, moved));
        }
        if overflow > 0 {
            return Err(io::Error::other(format!(
                "{overflow} completions were lost"
            )));
        }
        Ok(())
    }

    fn target(&self) -> Target {
        if self.file_is_registered {
            Target::Registered
        } else {
            Target::Descriptor(self.device.fd().as_raw_fd())
        }
    }
}

impl<E: Encoder> Drop for Ring<E> {
    fn drop(&mut self) {
        if self.table.len() > 0 || !self.is_here() {
            // The kernel may still use the memory of these parts, and closing the ring would not
            // wait for it: neither is ever freed, nor are their arenas and the lock of the device.
            // A forked child shares the ring with its parent and must not unregister the parent's
            // resources.
            std::mem::forget(Arc::clone(&self.device));
            // The kernel keeps the registered memory as long as it has the ring.
            std::mem::forget(std::mem::take(&mut self.registered));
            return;
        }
        if self.file_is_registered {
            // The kernel tears down a closed ring later, in a worker, and until then its file table
            // keeps the device open: the next exclusive opener would be refused. If this fails
            // (another thread owns the ring), that delay remains.
            let _ = self.ring.submitter().unregister_files();
        }
        // SAFETY: dropped only here, and nothing uses the field after its owner is dropped.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        // SAFETY: as above.
        unsafe { ManuallyDrop::drop(&mut self.table) };
    }
}

fn build<S: EntryMarker, C: cqueue::EntryMarker>(
    entries: u32,
    flavour: Flavour,
) -> io::Result<IoUring<S, C>> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_clamp();
    match flavour {
        Flavour::Deferred => builder
            .setup_submit_all()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_r_disabled(),
        Flavour::Cooperative => builder
            .setup_submit_all()
            .setup_coop_taskrun()
            .setup_taskrun_flag(),
        Flavour::Plain => &mut builder,
    };
    builder.build(entries)
}
