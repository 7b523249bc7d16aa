//! A libblkio queue, and the thread that drives it at the moment.
//!
//! Several of our queues may share one port. A waiter takes a turn: it starts the parts that it and
//! other queues pushed, fetches completions, and puts each on the board of the queue it belongs to.
//! A waiter sleeps on two descriptors: the completions of the port, and its own board, which other
//! threads signal.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::board::{Board, Ended};
use super::driver::Driver;
use super::flight::Flight;
use super::step::{Step, at, refused};
use crate::arena::Arena;
use crate::buffer::{Buffer, IoBuf};
use crate::error::OpenError;
use crate::request::{OpKind, Part};
use crate::sys::channel::Channel;

/// Size of the bounce arena: memory visible to the server, for parts in memory that is not. Bounds
/// the number of such parts in flight.
const BOUNCE_BYTES: usize = 16 << 20;

pub(crate) struct Port {
    state: Mutex<State>,
    /// Readable when there may be completions.
    completions: OwnedFd,
    /// Signals that the server is gone; libblkio itself would wait forever.
    hangup: Option<UnixStream>,
}

struct State {
    channel: Channel,
    /// Parts that wait for a slot in the channel or for memory in the bounce arena.
    waiting: VecDeque<Waiting>,
    /// Present if the driver needs mapped memory. Its pages are allocated on first use.
    bounce: Option<Arena>,
}

/// A part that waits to enter the channel.
pub(super) struct Waiting {
    pub(super) part: Part,
    pub(super) board: Arc<Board>,
    /// True if the part's memory is used directly, without a copy.
    pub(super) direct: bool,
}

impl Port {
    /// Creates a port with its own queue.
    pub(super) fn new(driver: &Arc<Driver>, depth: u32) -> Result<Self, OpenError> {
        let queue = driver.add_queue().map_err(refused)?;
        Self::over(queue, driver, depth.min(driver.ring_depth()), None).map_err(refused)
    }

    /// Creates a port over one of the driver's queues.
    pub(super) fn over(
        queue: blkio::Blkioq,
        driver: &Arc<Driver>,
        depth: u32,
        hangup: Option<UnixStream>,
    ) -> Step<Self> {
        let (channel, completions) = Channel::new(queue, Arc::clone(driver), depth)
            .map_err(|why| blkio::Error::from_io_error(why, blkio::Errno::IO))
            .map_err(at("completion descriptor"))?;
        let bounce = match driver.needs_regions() {
            true => Some(bounce(driver)?),
            false => None,
        };
        let state = State {
            channel,
            waiting: VecDeque::new(),
            bounce,
        };
        Ok(Self {
            state: Mutex::new(state),
            completions,
            hangup,
        })
    }

    /// Takes a turn: starts pushed parts and puts completions on their boards. Does not block.
    ///
    /// # Errors
    /// The channel failed, for all queues that share it.
    pub(super) fn turn(
        &self,
        own: &Arc<Board>,
        pushed: impl Iterator<Item = Waiting>,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        state.waiting.extend(pushed);
        loop {
            state.start_waiting(own);
            let mut ended = 0;
            let State { channel, .. } = &mut *state;
            channel.turn(|flight, result| {
                ended += 1;
                finish(flight, result, own);
            })?;
            // Completions have freed channel slots and bounce memory.
            if ended == 0 || state.waiting.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sleeps until there may be completions (not watched if `alone`: then none can arrive), the
    /// board is raised, or the timeout passes.
    ///
    /// # Errors
    /// The server is gone (`ENOTCONN`), so nothing in flight will complete.
    pub(super) fn sleep(
        &self,
        board: &Board,
        alone: bool,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        // Without a connection to watch, the completions descriptor takes its place.
        let mut fds = [
            PollFd::new(&board.event, PollFlags::IN),
            PollFd::new(&self.completions, PollFlags::IN),
            match &self.hangup {
                Some(connection) => PollFd::new(connection, PollFlags::RDHUP),
                None => PollFd::new(&self.completions, PollFlags::empty()),
            },
        ];
        let watched = if alone { 1 } else { fds.len() };
        // A timeout that the kernel cannot represent means no timeout.
        let timeout = timeout.and_then(|time| Timespec::try_from(time).ok());
        match rustix::event::poll(&mut fds[..watched], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [own, ended, gone] = fds.map(|fd| !fd.revents().is_empty());
        if own {
            board.event.clear();
        }
        if ended {
            // Cleared before the next turn, so that later completions raise it again.
            let _count = rustix::io::read(&self.completions, &mut [0_u8; 8]);
        }
        // Completions that arrived before the disconnect are fetched first.
        if gone && !own && !ended {
            return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
        }
        Ok(())
    }
}

impl State {
    fn start_waiting(&mut self, own: &Arc<Board>) {
        while let Some(next) = self.waiting.pop_front() {
            let Waiting {
                part,
                board,
                direct,
            } = next;
            let bounce = match direct {
                true => None,
                false => match self.bounce_for(&part) {
                    Ok(Some(bounce)) => Some(bounce),
                    Ok(None) => {
                        let waiting = Waiting {
                            part,
                            board,
                            direct,
                        };
                        return self.waiting.push_front(waiting);
                    }
                    Err(error) => {
                        let result = Err(error);
                        board.put(Ended { part, result }, own);
                        continue;
                    }
                },
            };
            let flight = Flight {
                part,
                bounce,
                board,
            };
            if let Err(back) = self.channel.push(flight) {
                let Flight { part, board, .. } = *back;
                return self.waiting.push_front(Waiting {
                    part,
                    board,
                    direct,
                });
            }
        }
    }

    /// Returns bounce memory for a part, filled if it is a write; `None` if the part must wait for
    /// others to complete.
    fn bounce_for(&mut self, part: &Part) -> io::Result<Option<IoBuf>> {
        let len = part.len as usize;
        let Some(arena) = &self.bounce else {
            return Err(io::Error::other("memory for copying was not made"));
        };
        let Some(mut buffer) = arena.take(len) else {
            if self.channel.in_flight() > 0 {
                return Ok(None);
            }
            let words = format!("{len} bytes are more than the {BOUNCE_BYTES} for copying");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
        };
        if let (OpKind::Write, Some(own)) = (part.op, &part.buf) {
            own.copy_to(part.buf_offset, &mut buffer[..len])?;
        }
        Ok(Some(buffer.into_io()))
    }
}

/// Allocates the bounce arena. It is mapped into the driver up front, because mapping waits for the
/// server.
fn bounce(driver: &Driver) -> Step<Arena> {
    let failed = |why: String| ("bounce memory", blkio::Error::new(blkio::Errno::NOMEM, why));
    let arena = Arena::allocate_shared(BOUNCE_BYTES).map_err(|why| failed(why.to_string()))?;
    let (_, outcome) = driver.map(std::slice::from_ref(&arena));
    outcome.map_err(failed)?;
    Ok(arena)
}

fn finish(flight: Flight, result: io::Result<()>, own: &Arc<Board>) {
    let Flight {
        part,
        bounce,
        board,
    } = flight;
    // The server has finished with the bounce memory, so it can be read.
    let bounced: Option<Buffer> = bounce.and_then(|bounce| bounce.into_buffer().ok());
    let result = match (result, bounced, &part.buf) {
        (Ok(()), Some(bounced), Some(own)) if part.op == OpKind::Read => {
            own.copy_from(part.buf_offset, &bounced[..part.len as usize])
        }
        (result, _, _) => result,
    };
    board.put(Ended { part, result }, own);
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Port")
    }
}
