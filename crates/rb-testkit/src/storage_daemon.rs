//! A disk behind a vhost-user socket: QEMU's storage daemon over an image, if it is installed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions};

use crate::skip;

/// Environment variable with the path of the program, if it is not in the search path under its
/// usual name.
const PROGRAM: &str = "RB_STORAGE_DAEMON";
/// Time limit until it listens.
const WATCHDOG: Duration = Duration::from_secs(20);

/// A running `qemu-storage-daemon`, which serves an image to one client at a time. Terminated when
/// dropped.
#[derive(Debug)]
pub struct StorageDaemon {
    child: Child,
    socket: PathBuf,
}

impl StorageDaemon {
    /// Serves the image with this logical block, at a socket named `image` with `.socket` appended.
    /// `None`, with a reported skip, if the program is not installed.
    ///
    /// # Panics
    /// If the program runs and does not listen.
    #[must_use]
    pub fn serve(what: &str, image: &Path, block: u32) -> Option<Self> {
        let mut socket = image.as_os_str().to_owned();
        socket.push(".socket");
        let socket = PathBuf::from(socket);
        let program = std::env::var_os(PROGRAM);
        let program = program.unwrap_or_else(|| "qemu-storage-daemon".into());
        // A comma in a name would have to be doubled; names of temporary files have none.
        let disk = argument("driver=file,node-name=disk,discard=unmap,filename=", image);
        let export = format!(
            "type=vhost-user-blk,id=export,node-name=disk,writable=on,\
             logical-block-size={block},addr.type=unix,addr.path="
        );
        let spawned = Command::new(program)
            .arg("--blockdev")
            .arg(disk)
            .arg("--export")
            .arg(argument(&export, &socket))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(why) => {
                skip::note(what, &format!("no qemu-storage-daemon ({PROGRAM}): {why}"));
                return None;
            }
        };
        let start = Instant::now();
        while !socket.exists() {
            let ended = child.try_wait().expect("the child can be asked");
            assert!(ended.is_none(), "qemu-storage-daemon ended: {ended:?}");
            assert!(start.elapsed() < WATCHDOG, "it does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self { child, socket })
    }

    /// Stops the process: it serves no request until [`go_on`](Self::go_on).
    ///
    /// # Panics
    /// If the process has already ended.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        // The signal is asynchronous; this waits until all threads have stopped.
        let pid = Pid::from_child(&self.child);
        let stopped = rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED);
        stopped.expect("the child has not been waited for");
    }

    /// Resumes the process.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let sent = rustix::process::kill_process(Pid::from_child(&self.child), signal);
        sent.expect("the child has not been waited for");
    }

    /// Returns the path of its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for StorageDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

fn argument(words: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(words);
    argument.push(path);
    argument
}
