//! Queues for blocking calls, and the way a wave of requests is driven to its end.
//!
//! A blocking call takes a lane out of a small pool and drives it itself: no thread hop, no wake-up.
//! A wave that misses its deadline leaves with its lane: a thread of its own waits for the kernel,
//! because buffers, leases and reservations belong to the wave until the last request is answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rb_io::{Arena, Completion, Engine, Issuer, Lane, QueueCounters, QueueOptions, Request};

use crate::error::Error;

/// Requests that belong together, and what to do when all are answered. It owns everything that
/// must outlive the requests.
pub(crate) trait Wave: Send + 'static {
    type Output;
    /// Called when the requests are about to go out; a wave dropped before it moved nothing.
    fn sent(&mut self) {}
    /// Whether there is something to do with answers while others are under way.
    const EARLY: bool = false;
    /// Called with such answers.
    fn arrived(&mut self, _answer: &Completion) {}
    /// Called once with every answer, in request order.
    fn complete(self, completions: Vec<Completion>) -> Self::Output;
}

/// Late waves at most before their lanes are not replaced. Each has a thread and a queue until the device
/// answers, so callers who try again and again would pile them up without end.
const LATE_MAX: usize = 64;

/// How long the driver waits for more answers after the first. Under load it then sleeps once for several,
/// which is more than half of what a short operation costs it.
const LINGER: Duration = Duration::from_micros(100);

/// Answers of a large wave are looked at whenever there are as many bytes more: what is done with them, such as
/// a checksum, takes far longer than a sleep, and the device works on meanwhile. A smaller wave is one sleep.
const TOGETHER_BYTES: u64 = 2 << 20;

pub(crate) struct Lanes {
    engine: Arc<dyn Engine>,
    arenas: Vec<Arena>,
    depth: u32,
    max: usize,
    pool: Mutex<Pool>,
    freed: Condvar,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Lane>,
    /// Idle and in use.
    made: usize,
    /// Gone with waves that missed their deadline and still wait for the device.
    late: usize,
    /// Counters of lanes that are gone.
    past: QueueCounters,
}

impl Lanes {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        arenas: Vec<Arena>,
        depth: u32,
        max: usize,
    ) -> Lanes {
        Lanes {
            engine,
            arenas,
            depth,
            max,
            pool: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// A lane for a caller that stays on one thread as long as it has it, or for its whole life.
    pub(crate) fn make(&self, issuer: Issuer) -> Result<Lane, Error> {
        let options = QueueOptions {
            depth: self.depth,
            arenas: self.arenas.clone(),
            issuer,
            // The driver must hear of the next operation while a part hangs.
            inline: issuer == Issuer::Any,
            linger: match issuer {
                Issuer::OneThread => LINGER,
                Issuer::Any => Duration::ZERO,
            },
        };
        let queue = self.engine.queue(&options).map_err(|why| Error::Resource {
            what: "an I/O queue",
            why: why.to_string(),
        })?;
        Ok(Lane::new(queue, self.engine.limits()))
    }

    fn checkout(&self, wait: Duration) -> Result<Lane, Error> {
        let start = Instant::now();
        let mut pool = self.pool.lock();
        let mut may_make = true;
        loop {
            if let Some(lane) = pool.idle.pop() {
                return Ok(lane);
            }
            let all = pool.made + pool.late;
            if may_make && pool.made < self.max && all < self.max.saturating_add(LATE_MAX) {
                pool.made += 1;
                drop(pool);
                let made = self.make(Issuer::Any);
                let Err(error) = made else { return made };
                pool = self.pool.lock();
                pool.made -= 1;
                // The process may have no more rings; then callers share those there are.
                may_make = false;
                if pool.made == 0 {
                    return Err(error);
                }
                continue;
            }
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(Error::Busy {
                    what: "I/O queue",
                    waited: wait,
                });
            }
            self.freed.wait_for(&mut pool, left);
        }
    }

    fn give_back(&self, lane: Lane) {
        self.pool.lock().idle.push(lane);
        self.freed.notify_one();
    }

    fn lost(&self, lane: &Lane) {
        let mut pool = self.pool.lock();
        pool.made -= 1;
        let counters = lane.counters();
        pool.past += counters;
        // All: one that may not make a lane would keep the news to itself.
        self.freed.notify_all();
    }

    /// Counters of all lanes that are not in use right now, and of those that are gone.
    pub(crate) fn counters(&self) -> QueueCounters {
        let pool = self.pool.lock();
        let mut sum = pool.past;
        for lane in &pool.idle {
            sum += lane.counters();
        }
        sum
    }

    /// Runs a wave on a lane of the pool, in the calling thread.
    ///
    /// # Errors
    /// `Busy` when no lane came free within `wait`; the wave is dropped unsent. `TimedOut` when the device did not answer by `deadline`.
    pub(crate) fn drive<W: Wave>(
        self: &Arc<Self>,
        mut wave: W,
        requests: Vec<Request>,
        wait: Duration,
        deadline: Duration,
    ) -> Result<W::Output, Error> {
        let mut lane = self.checkout(wait)?;
        wave.sent();
        let count = requests.len();
        let bytes: u64 = requests.iter().map(|request| request.len).sum();
        let together = match W::EARLY {
            true => count.div_ceil(usize::try_from(bytes / TOGETHER_BYTES).unwrap_or(1).max(1)),
            false => count,
        };
        for (tag, request) in requests.into_iter().enumerate() {
            lane.start(tag as u64, request);
        }
        let start = Instant::now();
        let mut done = Vec::with_capacity(count);
        let mut healthy = true;
        while done.len() < count {
            let left = deadline.saturating_sub(start.elapsed());
            let known = done.len();
            let wanted = u32::try_from((count - known).min(together)).unwrap_or(u32::MAX);
            // A queue that fails answers everything it holds, and is of no more use. With no time left this looks
            // once: what was done with early answers took time, too, and answers that came meanwhile are in time.
            healthy &= lane.poll(wanted, Some(left), &mut done).is_ok();
            if done.len() == count {
                break;
            }
            if left.is_zero() {
                let late = Late::new(self);
                self.lost(&lane);
                wait_elsewhere(lane, wave, done, count, late);
                return Err(Error::TimedOut { waited: deadline });
            }
            done[known..].iter().for_each(|answer| wave.arrived(answer));
        }
        match healthy {
            true => self.give_back(lane),
            false => self.lost(&lane),
        }
        done.sort_unstable_by_key(|completion| completion.tag);
        Ok(wave.complete(done))
    }
}

/// A late wave, counted as long as this lives.
struct Late(Arc<Lanes>);

impl Late {
    fn new(lanes: &Arc<Lanes>) -> Late {
        lanes.pool.lock().late += 1;
        Late(Arc::clone(lanes))
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.0.pool.lock().late -= 1;
        // All: one that may not make a lane would keep the news to itself.
        self.0.freed.notify_all();
    }
}

/// Drops a lane of which nothing more is wanted in a thread of its own: requests that hang would keep the
/// caller, and after some time the queue would give its memory up for lost.
pub(crate) fn drop_elsewhere(mut lane: Lane) {
    elsewhere(move || {
        let mut done = Vec::new();
        while lane.unfinished() > 0 && lane.poll(1, None, &mut done).is_ok() {
            done.clear();
        }
    });
}

/// Waits for the rest of a late wave in a thread of its own, however long the device takes.
fn wait_elsewhere<W: Wave>(
    mut lane: Lane,
    wave: W,
    mut done: Vec<Completion>,
    count: usize,
    late: Late,
) {
    elsewhere(move || {
        while done.len() < count {
            let missing = u32::try_from(count - done.len()).unwrap_or(u32::MAX);
            if lane.poll(missing, None, &mut done).is_err() {
                break;
            }
        }
        done.sort_unstable_by_key(|completion| completion.tag);
        wave.complete(done);
        // The lane's memory goes first.
        drop(lane);
        drop(late);
    });
}

fn elsewhere(wait: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name("rb-late".into());
    // Without a thread the closure is dropped with the lane in it, whose queue keeps the memory.
    drop(thread.spawn(wait));
}
