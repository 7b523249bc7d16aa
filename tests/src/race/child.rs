//! Runs sessions in a child process, which is killed.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::event::Event;
use super::journal::{Journal, Reader};
use super::plan::{End, Plan};
use super::session::run;
use super::shape::{Fixed, Image, Session};
use super::watchdog::WATCHDOG;

/// A session as ordered by the parent; parent and child derive the same plan from it.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) path: std::path::PathBuf,
    pub(super) engine: rb_core::EngineKind,
    pub(super) image_seed: u64,
    pub(super) session_seed: u64,
    pub(super) fixed: Fixed,
    pub(super) first_version: u64,
    pub(super) time: Duration,
    pub(super) end: End,
    pub(super) reads_first: bool,
}

impl Order {
    pub(super) fn plan(&self) -> Plan {
        Plan {
            path: self.path.clone(),
            engine: self.engine,
            image: Image::new(self.image_seed, &self.fixed),
            session: Session::new(self.session_seed, &self.fixed),
            first_version: self.first_version,
            time: self.time,
            end: self.end,
            reads_first: self.reads_first,
        }
    }

    fn args(&self) -> Vec<String> {
        vec![
            "race-child".into(),
            self.path.display().to_string(),
            self.engine.to_string(),
            self.image_seed.to_string(),
            self.session_seed.to_string(),
            self.fixed.threads.unwrap_or(0).to_string(),
            self.fixed.each_batch.to_string(),
            self.first_version.to_string(),
            self.time.as_millis().to_string(),
            (self.end == End::Close).to_string(),
            self.reads_first.to_string(),
        ]
    }

    fn parse(args: &[String]) -> Option<Order> {
        let [
            word,
            path,
            engine,
            image_seed,
            session_seed,
            threads,
            each_batch,
            first_version,
            millis,
            closes,
            reads_first,
        ] = args
        else {
            return None;
        };
        let number = |text: &String| text.parse::<u64>().ok();
        let threads = number(threads)?;
        (word == "race-child").then_some(Order {
            path: path.into(),
            engine: engine.parse().ok()?,
            image_seed: number(image_seed)?,
            session_seed: number(session_seed)?,
            fixed: Fixed {
                threads: (threads > 0).then_some(threads),
                each_batch: each_batch.parse().ok()?,
            },
            first_version: number(first_version)?,
            time: Duration::from_millis(number(millis)?),
            end: match closes.parse().ok()? {
                true => End::Close,
                false => End::Drop,
            },
            reads_first: reads_first.parse().ok()?,
        })
    }
}

/// Runs the session that the arguments request; returns false if they request none.
#[must_use]
pub fn child(args: &[String]) -> bool {
    let Some(order) = Order::parse(args) else {
        return false;
    };
    if let Ok(journal) = Journal::on_stdout() {
        run(&order.plan(), &Arc::new(journal));
    }
    true
}

/// Result of a child.
pub(super) struct Life {
    /// Its journal.
    pub(super) journal: Vec<u8>,
    /// True if it was killed; otherwise it ended by itself.
    pub(super) killed: bool,
}

/// Moment from which a child's time to live counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Started,
    /// It drops or closes the store.
    Ending,
}

/// Starts a child and kills it (SIGKILL) `after` the moment, if it has not ended.
///
/// # Errors
/// If it cannot be started.
pub(super) fn live_and_die(
    program: &Path,
    order: &Order,
    moment: Moment,
    after: Duration,
) -> Result<Life, String> {
    let mut child = Command::new(program)
        .args(order.args())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|why| format!("starting {}: {why}", program.display()))?;
    let mut output = child.stdout.take().ok_or("no pipe from the child")?;
    let (sender, heard) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut reader = Reader::default();
        let mut bytes = [0; 1 << 16];
        while let Some(count) = output.read(&mut bytes).ok().filter(|count| *count > 0) {
            if reader.take(&bytes[..count]) {
                // The receiver does not always wait.
                let _ = sender.send(());
            }
        }
        reader.into_bytes()
    });
    let mut hung = false;
    if moment == Moment::Ending {
        // A child that found a violation ends without it.
        hung = heard.recv_timeout(order.time + WATCHDOG) == Err(RecvTimeoutError::Timeout);
    }
    // The channel is disconnected when the child has ended.
    let start = Instant::now();
    let mut ended = false;
    while !ended && start.elapsed() < after {
        let heard = heard.recv_timeout(after.saturating_sub(start.elapsed()));
        ended = heard == Err(RecvTimeoutError::Disconnected);
    }
    let killed = end(&mut child, ended)?;
    let journal = reader.join();
    let mut journal = journal.map_err(|_| "the reader of the child panicked")?;
    if hung {
        let what = format!("a session did not end within {WATCHDOG:?} after its time");
        journal.extend(Event::Violation(what).encode());
    }
    Ok(Life { journal, killed })
}

/// Kills the child unless it `ended`; then it gets a moment to exit.
fn end(child: &mut Child, ended: bool) -> Result<bool, String> {
    let waiting = |why| format!("waiting for the child: {why}");
    let start = Instant::now();
    while ended && start.elapsed() < Duration::from_secs(10) {
        if child.try_wait().map_err(waiting)?.is_some() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().and_then(|()| child.wait()).map_err(waiting)?;
    Ok(true)
}
