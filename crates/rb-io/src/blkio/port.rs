//! A queue of libblkio and whoever drives it at the moment.
//!
//! Several of our queues may share one. Whoever waits takes a turn: it starts what it and others pushed,
//! fetches what has ended, and puts it on the board of the queue that it belongs to. A waiter sleeps on
//! two descriptors: the completions of the port, and its own board's, which others raise for it.

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

/// Memory that a server can see, for parts in memory that it cannot. It bounds how many of those are in
/// flight.
const BOUNCE_BYTES: usize = 16 << 20;

pub(crate) struct Port {
    state: Mutex<State>,
    /// Readable when something may have ended.
    completions: OwnedFd,
    /// Tells that the server is gone; libblkio itself would wait for ever.
    hangup: Option<UnixStream>,
}

struct State {
    channel: Channel,
    /// Parts that the channel has no place for, or the bounce arena no memory.
    waiting: VecDeque<Waiting>,
    /// Where the driver needs to know memory. Its pages are taken as they are first used.
    bounce: Option<Arena>,
}

/// A part on its way to the channel.
pub(super) struct Waiting {
    pub(super) part: Part,
    pub(super) board: Arc<Board>,
    /// Its memory is moved as it is, without a copy.
    pub(super) direct: bool,
}

impl Port {
    /// A port with a queue of its own.
    pub(super) fn new(driver: &Arc<Driver>, depth: u32) -> Result<Self, OpenError> {
        let queue = driver.add_queue().map_err(refused)?;
        Self::over(queue, driver, depth.min(driver.ring_depth()), None).map_err(refused)
    }

    /// A port over one of the driver's queues.
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

    /// A turn: starts what is pushed, and puts what has ended on its board. Does not wait.
    ///
    /// # Errors
    /// The channel failed, for everyone who shares it.
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
            // Places have come free, and memory to bounce off.
            if ended == 0 || state.waiting.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sleeps until something may have ended (unless `alone`: then nothing can), the board is raised, or the
    /// time is over.
    ///
    /// # Errors
    /// The server is gone (`ENOTCONN`), so that nothing will end any more.
    pub(super) fn sleep(
        &self,
        board: &Board,
        alone: bool,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        // Without a connection to watch, the completions stand in for it.
        let mut fds = [
            PollFd::new(&board.event, PollFlags::IN),
            PollFd::new(&self.completions, PollFlags::IN),
            match &self.hangup {
                Some(connection) => PollFd::new(connection, PollFlags::RDHUP),
                None => PollFd::new(&self.completions, PollFlags::empty()),
            },
        ];
        let watched = if alone { 1 } else { fds.len() };
        // A time too long for the kernel is none.
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
            // Before the turn that follows, so that what ends after it raises it again.
            let _count = rustix::io::read(&self.completions, &mut [0_u8; 8]);
        }
        // What ended before is fetched first.
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

    /// Memory for a part, filled if it is a write; `None` if it has to wait for others to end.
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

/// Memory to copy through, known to the driver from the start: to make it known means to wait for the server.
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
    // The server is done with it, so it is readable again.
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
