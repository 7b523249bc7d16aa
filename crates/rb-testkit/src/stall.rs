//! A file in a real file system whose reads, writes and flushes can be held until the test releases
//! them.
//!
//! The kernel's handling of the memory of a hanging request can only be observed in a real kernel.
//! This is one file served through FUSE: as long as its server does not reply, a request is in
//! flight, with its memory. The server is a separate process that dies with the test, because a
//! process that waits for itself cannot even be killed. The file system is detached from the tree
//! as soon as it is open, so nothing is left behind. It needs `/dev/fuse` and the right to mount;
//! without them such tests are skipped.

mod server;
mod wire;

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use server::MARK;

const SIZE_VARIABLE: &str = "RB_STALL_BYTES";
/// One file whose reads, writes and flushes can be held. Dropping it completes held requests; it
/// must not outlive the thread that created it.
#[derive(Debug)]
pub struct StallingFile {
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    path: PathBuf,
}

impl StallingFile {
    /// Creates a file of `bytes` zeros, served by another instance of the calling test program that
    /// runs only `server`: the full name of a test that calls [`serve`](Self::serve).
    ///
    /// # Errors
    /// The machine has no FUSE, or forbids mounting it.
    pub fn new(server: &str, bytes: usize) -> io::Result<StallingFile> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", server, "--nocapture"])
            .env(SIZE_VARIABLE, bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let mut file = StallingFile {
            child,
            talk: Mutex::new((input, BufReader::new(output))),
            path: PathBuf::new(),
        };
        let answer = file.ask("where")?;
        let folder: u32 = answer.parse().map_err(|_| io::Error::other(answer))?;
        file.path = format!("/proc/{}/fd/{folder}/file", file.child.id()).into();
        Ok(file)
    }

    /// Runs the server. For the test named to [`new`](Self::new); does nothing unless the process
    /// was started to serve.
    pub fn serve() {
        let bytes = std::env::var(SIZE_VARIABLE).ok();
        if let Some(bytes) = bytes.and_then(|bytes| bytes.parse().ok()) {
            server::run(bytes);
        }
    }

    /// Returns the path of the file, valid as long as this lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Holds reads, writes and flushes from now on.
    ///
    /// # Errors
    /// The server is gone.
    pub fn hold(&self) -> io::Result<()> {
        self.ask("hold").map(drop)
    }

    /// Holds flushes from now on; reads and writes complete.
    ///
    /// # Errors
    /// The server is gone.
    pub fn hold_flushes(&self) -> io::Result<()> {
        self.ask("hold flushes").map(drop)
    }

    /// Holds reads and writes from now on; flushes complete.
    ///
    /// # Errors
    /// The server is gone.
    pub fn hold_transfers(&self) -> io::Result<()> {
        self.ask("hold transfers").map(drop)
    }

    /// Executes and completes held requests, and stops holding.
    ///
    /// # Errors
    /// The server is gone.
    pub fn release(&self) -> io::Result<()> {
        self.ask("release").map(drop)
    }

    /// Returns the number of requests that wait for [`release`](Self::release); 0 if the server is
    /// gone.
    #[must_use]
    pub fn held(&self) -> usize {
        let answer = self.ask("held").unwrap_or_default();
        answer.parse().unwrap_or(0)
    }

    /// Waits until `count` requests are held; returns false if they are not after `timeout`.
    #[must_use]
    pub fn wait_for_held(&self, count: usize, timeout: Duration) -> bool {
        let start = Instant::now();
        while self.held() < count {
            if start.elapsed() > timeout {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    fn ask(&self, what: &str) -> io::Result<String> {
        let (input, output) = &mut *self.talk.lock();
        writeln!(input, "{what}")?;
        let mut line = String::new();
        while output.read_line(&mut line)? > 0 {
            if let Some(answer) = line.trim_end().strip_prefix(MARK) {
                return Ok(answer.to_owned());
            }
            line.clear();
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for StallingFile {
    fn drop(&mut self) {
        // Without a server the kernel completes every request with an error.
        drop(self.release());
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
