//! The server process of a stalling file.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::Signal;

use super::wire;

/// Prefix of the server's output lines; the test harness around it prints too.
pub(super) const MARK: &str = "rb-stall ";

#[derive(Debug)]
struct Server {
    fuse: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    holding: Holding,
    /// Requests without a reply, as received.
    held: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Holding {
    Nothing,
    Flushes,
    Transfers,
    Everything,
}

impl Holding {
    fn takes(self, request: &[u8]) -> bool {
        match self {
            Holding::Nothing => false,
            Holding::Flushes => wire::is_flush(request),
            Holding::Transfers => wire::is_transfer(request),
            Holding::Everything => wire::is_flush(request) || wire::is_transfer(request),
        }
    }
}

/// Serves a file of `bytes` zeros until standard input is closed.
pub(super) fn run(bytes: usize) {
    let mounted = mount(bytes);
    for line in io::stdin().lines().map_while(Result::ok) {
        let answer = match (&mounted, line.as_str()) {
            (Err(why), _) => why.to_string(),
            (Ok((_, folder)), "where") => folder.as_raw_fd().to_string(),
            (Ok((server, _)), what) => server.obey(what).to_string(),
        };
        if writeln!(io::stdout(), "{MARK}{answer}").is_err() {
            break;
        }
    }
}

/// Mounts the file system and detaches it immediately: it lives as long as its directory is open.
fn mount(bytes: usize) -> io::Result<(Arc<Server>, OwnedFd)> {
    // A killed test cannot notify this process, and would wait for it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let fuse = File::options().read(true).write(true).open("/dev/fuse")?;
    let fd = fuse.as_raw_fd();
    let options = CString::new(format!("fd={fd},rootmode=40000,user_id=0,group_id=0"))?;
    let place = std::env::temp_dir().join(format!("rb-stall-{}", std::process::id()));
    std::fs::create_dir(&place)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = rustix::mount::mount("rb-stall", &place, "fuse", flags, options.as_c_str());
    let server = Arc::new(Server {
        fuse,
        state: Mutex::new(State {
            bytes: vec![0; bytes],
            holding: Holding::Nothing,
            held: Vec::new(),
        }),
    });
    let opened = mounted.and_then(|()| {
        let other = Arc::clone(&server);
        std::thread::spawn(move || other.serve());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&place, flags, Mode::empty());
        rustix::mount::unmount(&place, UnmountFlags::DETACH)?;
        folder
    });
    std::fs::remove_dir(&place)?;
    Ok((server, opened?))
}

impl Server {
    /// Executes a command of the test; returns the number of requests held afterwards.
    fn obey(&self, what: &str) -> usize {
        let mut state = self.state.lock();
        match what {
            "hold" => state.holding = Holding::Everything,
            "hold flushes" => state.holding = Holding::Flushes,
            "hold transfers" => state.holding = Holding::Transfers,
            "release" => {
                state.holding = Holding::Nothing;
                for request in std::mem::take(&mut state.held) {
                    self.answer(&request, &mut state.bytes);
                }
            }
            _ => {}
        }
        state.held.len()
    }

    /// Serves requests until the file system is gone.
    fn serve(&self) {
        let mut request = vec![0; wire::REQUEST_BYTES_MAX];
        loop {
            let len = match (&self.fuse).read(&mut request) {
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let request = &request[..len];
            let mut state = self.state.lock();
            if state.holding.takes(request) {
                state.held.push(request.to_vec());
            } else {
                self.answer(request, &mut state.bytes);
            }
        }
    }

    fn answer(&self, request: &[u8], bytes: &mut [u8]) {
        if let Some(answer) = wire::answer(request, bytes) {
            // The requester may have gone in the meantime; then no one waits for the reply.
            drop((&self.fuse).write_all(&answer));
        }
    }
}
