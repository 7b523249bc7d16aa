//! The worker threads of one engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;

use super::execute::execute;
use crate::board::Board;
use crate::device::Device;
use crate::process::Process;
use crate::request::Part;

/// How long a dropped engine waits for jobs that have signalled their queue, or whose queue gave up
/// waiting.
const LAST_JOBS_WAIT: Duration = Duration::from_millis(200);

/// A part and the board that receives its completion. Owns everything it uses, so it may run
/// whether or not its queue still exists.
pub(super) struct Job {
    pub(super) device: Arc<Device>,
    pub(super) part: Part,
    pub(super) board: Arc<Board>,
}

impl Job {
    fn run(self) {
        self.board.put([execute(&self.device, self.part)]);
    }
}

pub(super) struct Pool {
    process: Process,
    sender: Option<Sender<Job>>,
    receiver: Receiver<Job>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    allowed: AtomicUsize,
    /// Jobs sent and not finished; a worker is started if there are more of them than workers.
    open: Arc<AtomicUsize>,
}

impl Pool {
    pub(super) fn new() -> Self {
        // The depths of the queues bound the length of the channel.
        let (sender, receiver) = unbounded();
        Self {
            process: Process::current(),
            sender: Some(sender),
            receiver,
            workers: Mutex::new(Vec::new()),
            allowed: AtomicUsize::new(1),
            open: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Raises the number of workers that may be started.
    pub(super) fn allow(&self, workers: u32) {
        // Relaxed: a thread that reads the old number starts fewer workers for a moment.
        self.allowed.fetch_max(workers as usize, Ordering::Relaxed);
    }

    pub(super) fn allowed(&self) -> usize {
        self.allowed.load(Ordering::Relaxed)
    }

    pub(super) fn send(&self, jobs: impl ExactSizeIterator<Item = Job>) {
        // Counted before they are sent: a worker subtracts a job as soon as it has run it.
        let open = self.open.fetch_add(jobs.len(), Ordering::Relaxed) + jobs.len();
        let have_worker = self.staff(open);
        for job in jobs {
            let refused = match &self.sender {
                Some(sender) if have_worker => sender.send(job).err().map(|refused| refused.0),
                _ => Some(job),
            };
            // No thread could be started at all: slow, but every part still completes.
            if let Some(job) = refused {
                job.run();
                self.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes the jobs of a board with these tokens that no worker has yet.
    pub(super) fn withdraw(&self, board: &Arc<Board>, tokens: &[u64]) -> Vec<Part> {
        let waiting: Vec<Job> = self.receiver.try_iter().collect();
        let (withdrawn, others): (Vec<Job>, Vec<Job>) = waiting
            .into_iter()
            .partition(|job| Arc::ptr_eq(&job.board, board) && tokens.contains(&job.part.token));
        for job in others {
            let sent = self.sender.as_ref().map(|sender| sender.send(job));
            assert!(
                matches!(sent, Some(Ok(()))),
                "the pool has a sender until it is dropped, and a receiver"
            );
        }
        self.open.fetch_sub(withdrawn.len(), Ordering::Relaxed);
        withdrawn.into_iter().map(|job| job.part).collect()
    }

    /// Starts as many workers as `open` jobs can use; returns whether there is any.
    fn staff(&self, open: usize) -> bool {
        let target = open.min(self.allowed());
        let mut workers = self.workers.lock();
        while workers.len() < target {
            let receiver = self.receiver.clone();
            let open = Arc::clone(&self.open);
            let name = format!("rb-io-posix-{}", workers.len());
            let spawned = std::thread::Builder::new().name(name).spawn(move || {
                for job in receiver {
                    job.run();
                    // Release: a drop that reads 0 must also see what the job did.
                    open.fetch_sub(1, Ordering::Release);
                }
            });
            match spawned {
                Ok(worker) => workers.push(worker),
                // The workers that exist do all the work, more slowly.
                Err(_) => break,
            }
        }
        !workers.is_empty()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // A forked child has none of the threads and must not touch their handles.
            std::mem::forget(std::mem::take(self.workers.get_mut()));
            std::mem::forget((self.sender.take(), self.receiver.clone()));
            return;
        }
        // Without a sender the workers finish the queued jobs and exit.
        self.sender = None;
        // The queues have waited for their jobs. A job still running is stuck in the kernel: its
        // worker keeps everything that the job uses and exits when it can.
        let deadline = Instant::now() + LAST_JOBS_WAIT;
        while self.open.load(Ordering::Acquire) > 0 {
            if Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for worker in self.workers.get_mut().drain(..) {
            let ended = worker.join();
            debug_assert!(ended.is_ok(), "a worker of the posix engine panicked");
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.workers.lock().len())
            .field("allowed", &self.allowed())
            .finish_non_exhaustive()
    }
}
