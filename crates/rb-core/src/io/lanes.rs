//! A small pool of lanes for blocking calls.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rb_io::{Arena, Engine, Issuer, Lane, Patience, QueueCounters, QueueOptions};

use crate::error::{Error, error_chain};
use crate::io::pace::Load;
use crate::io::requests::{ByPurpose, Purpose};

/// Most late batches whose lanes are replaced. Each occupies a thread and a queue until the device
/// completes, so callers that keep retrying would otherwise create them without bound.
const LATE_MAX: usize = 64;

/// Time the driver waits for more completions after the first. Under load it then sleeps once for
/// several completions; a sleep is more than half of the cost of a short operation.
const LINGER: Duration = Duration::from_micros(100);

/// Longest time during which other callers may overtake one that waits for a lane. Strict FIFO
/// order would cost a thread switch per round.
const PASSED_MAX: Duration = Duration::from_millis(1);

pub(crate) struct Lanes {
    /// `None` once closed.
    engine: Mutex<Option<Arc<dyn Engine>>>,
    arenas: Mutex<Vec<Arena>>,
    depth: u32,
    max: usize,
    pool: Mutex<Pool>,
    /// Counters of the driver's lanes. The driver owns its lane, so it publishes them.
    driver: Mutex<QueueCounters>,
    pub(crate) requests: ByPurpose,
    /// Load of the callers, to which background work yields.
    pub(crate) load: Load,
}

#[derive(Default)]
struct Pool {
    /// True once no more lanes are handed out.
    closed: bool,
    idle: Vec<PoolLane>,
    /// Callers that wait for a lane, in order of arrival.
    line: VecDeque<Arc<Waiting>>,
    /// Number of lanes, idle and in use.
    made: usize,
    /// Number of lanes that left with late batches and still wait for the device.
    late: usize,
    /// Counters of lanes that are gone.
    past: QueueCounters,
}

struct Waiting {
    since: Instant,
    /// Signalled when a lane may be available.
    freed: Condvar,
}

impl Pool {
    /// Returns whether the caller must leave idle lanes to the first waiter.
    fn is_kept(&self, from: Option<&Arc<Waiting>>) -> bool {
        let first = self.line.front();
        first.is_some_and(|first| {
            from.is_none_or(|from| !Arc::ptr_eq(from, first)) && first.since.elapsed() >= PASSED_MAX
        })
    }

    /// Takes all idle lanes out of the pool, to be dropped without its lock.
    fn take_idle(&mut self) -> Vec<PoolLane> {
        let idle = std::mem::take(&mut self.idle);
        for lane in &idle {
            self.past += lane.counters();
        }
        self.made -= idle.len();
        self.notify_all();
        idle
    }

    fn join_line(&mut self) -> Arc<Waiting> {
        let place = Arc::new(Waiting {
            since: Instant::now(),
            freed: Condvar::new(),
        });
        self.line.push_back(Arc::clone(&place));
        place
    }

    /// Wakes the first waiter: a lane may be idle.
    fn notify(&self) {
        if let Some(first) = self.line.front() {
            first.freed.notify_one();
        }
    }

    /// Wakes all waiters, because a lane may be created: a waiter that may not create one would
    /// swallow a single wakeup.
    fn notify_all(&self) {
        for waiting in &self.line {
            waiting.freed.notify_one();
        }
    }
}

impl Lanes {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        arenas: Vec<Arena>,
        depth: u32,
        max: usize,
        requests: ByPurpose,
    ) -> Lanes {
        Lanes {
            engine: Mutex::new(Some(engine)),
            arenas: Mutex::new(arenas),
            depth,
            max,
            pool: Mutex::default(),
            driver: Mutex::default(),
            requests,
            load: Load::default(),
        }
    }

    /// Adds memory of the caller's to that of every lane. Idle lanes and those made later register
    /// it, busy ones are replaced when they come back.
    pub(crate) fn adopt(&self, arena: Arena) {
        self.arenas.lock().push(arena);
        let mut pool = self.pool.lock();
        let idle = pool.take_idle();
        drop(pool);
        // Outside the lock: dropping a queue may take long.
        drop(idle);
    }

    /// Returns the number of arenas that a lane made now knows.
    pub(crate) fn arenas(&self) -> usize {
        self.arenas.lock().len()
    }

    /// Makes a lane. Its caller stays on one thread while it uses the lane, or for the lane's whole
    /// life, as `issuer` states.
    pub(crate) fn make(&self, issuer: Issuer) -> Result<Lane, Error> {
        let options = QueueOptions {
            depth: self.depth,
            arenas: self.arenas.lock().clone(),
            issuer,
            // The driver must not block in the submission of a request: it has to notice new
            // operations while a request hangs.
            inline: issuer == Issuer::Any,
            linger: match issuer {
                Issuer::OneThread => LINGER,
                Issuer::Any => Duration::ZERO,
            },
        };
        let engine = self.engine.lock().clone().ok_or(Error::Closed)?;
        let queue = engine.queue(&options).map_err(|why| Error::Resource {
            what: "an I/O queue",
            why: error_chain(&why),
        })?;
        let mut lane = Lane::new(queue, engine.limits());
        self.requests.count(&mut lane, Purpose::Values);
        Ok(lane)
    }

    /// Takes a lane of the pool for a round of requests.
    ///
    /// # Errors
    /// `Busy` if none became free within `patience`, `Closed` after the close.
    pub(crate) fn checkout(&self, patience: &mut Patience) -> Result<PoolLane, Error> {
        let mut pool = self.pool.lock();
        let mut may_make = true;
        let mut place: Option<Arc<Waiting>> = None;
        let outcome = loop {
            if pool.closed {
                break Err(Error::Closed);
            }
            if !pool.is_kept(place.as_ref()) {
                if let Some(lane) = pool.idle.pop() {
                    break Ok(lane);
                }
                let all = pool.made + pool.late;
                if may_make && pool.made < self.max && all < self.max.saturating_add(LATE_MAX) {
                    // Count the lane before the lock is released: making it takes system calls, and
                    // concurrent callers must not exceed the maximum.
                    pool.made += 1;
                    drop(pool);
                    let arenas = self.arenas();
                    let made = self.make(Issuer::Any);
                    let made = made.map(|lane| PoolLane { lane, arenas });
                    pool = self.pool.lock();
                    let Err(error) = made else { break made };
                    pool.made -= 1;
                    // The process may have run out of rings; its callers then share the existing
                    // ones.
                    may_make = false;
                    if pool.made == 0 || matches!(error, Error::Closed) {
                        break Err(error);
                    }
                    continue;
                }
            }
            if patience.is_over() {
                break Err(Error::Busy {
                    what: "I/O queue",
                    waited: patience.limit(),
                });
            }
            let place = place.get_or_insert_with(|| pool.join_line());
            patience.spend(|step| place.freed.wait_for(&mut pool, step));
        };
        if let Some(place) = place {
            pool.line.retain(|other| !Arc::ptr_eq(other, &place));
            // The caller may have left a lane, or the right to create one, to the next waiter.
            pool.notify();
        }
        outcome
    }

    pub(crate) fn give_back(&self, lane: PoolLane) {
        let arenas = self.arenas();
        let mut pool = self.pool.lock();
        // A closed pool never reuses a lane, and keeping it would keep the device.
        let unused = if pool.closed {
            Some(lane)
        } else if lane.arenas < arenas {
            let counters = lane.counters();
            pool.past += counters;
            pool.made -= 1;
            Some(lane)
        } else {
            pool.idle.push(lane);
            None
        };
        pool.notify();
        drop(pool);
        // Outside the lock: dropping a queue may take long.
        drop(unused);
    }

    /// Closes the pool: drops the idle queues now, the others when they are given back.
    pub(crate) fn close(&self) {
        let mut pool = self.pool.lock();
        pool.closed = true;
        let engine = self.engine.lock().take();
        let idle = pool.take_idle();
        drop(pool);
        // Outside the lock: dropping a queue may take long.
        drop((idle, engine));
    }

    /// Removes a lane that does not come back to the pool.
    pub(crate) fn lost(&self, lane: &Lane) {
        let mut pool = self.pool.lock();
        pool.made -= 1;
        let counters = lane.counters();
        pool.past += counters;
        pool.notify_all();
    }

    /// Removes a lane that leaves with a batch that missed its deadline.
    pub(crate) fn late(self: &Arc<Self>, lane: &Lane) -> Late {
        self.pool.lock().late += 1;
        self.lost(lane);
        Late(Arc::clone(self))
    }

    /// Publishes the counters of all lanes that the driver has had.
    pub(crate) fn count_driver(&self, counters: QueueCounters) {
        *self.driver.lock() = counters;
    }

    /// Returns the counters of idle and former lanes, and of the driver's lanes. A lane in use by a
    /// blocking call is counted when it is given back.
    pub(crate) fn counters(&self) -> QueueCounters {
        let driver = *self.driver.lock();
        let pool = self.pool.lock();
        let mut sum = pool.past;
        sum += driver;
        for lane in &pool.idle {
            sum += lane.counters();
        }
        sum
    }
}

/// A lane of the pool.
pub(crate) struct PoolLane {
    lane: Lane,
    /// The number of arenas that it was made with.
    arenas: usize,
}

impl Deref for PoolLane {
    type Target = Lane;

    fn deref(&self) -> &Lane {
        &self.lane
    }
}

impl DerefMut for PoolLane {
    fn deref_mut(&mut self) -> &mut Lane {
        &mut self.lane
    }
}

/// A late batch; counted until it is dropped.
pub(crate) struct Late(Arc<Lanes>);

impl Drop for Late {
    fn drop(&mut self) {
        let mut pool = self.0.pool.lock();
        pool.late -= 1;
        pool.notify_all();
    }
}

/// Drops a lane in a thread of its own: hanging requests would block the caller, and after some
/// time the queue would leak their memory.
pub(crate) fn drop_elsewhere(mut lane: Lane) {
    // Without a thread the lane is dropped here: its queue waits for a bounded time and leaks the
    // memory of requests that hang.
    let _ = elsewhere(move || {
        let mut done = Vec::new();
        while lane.unfinished() > 0 && lane.poll(1, None, &mut done).is_ok() {
            done.clear();
        }
    });
}

/// Runs `wait`, which may never return, in a thread of its own. Returns false and drops `wait` if
/// no thread can be started.
pub(crate) fn elsewhere(wait: impl FnOnce() + Send + 'static) -> bool {
    let thread = std::thread::Builder::new().name("rb-late".into());
    thread.spawn(wait).is_ok()
}

#[cfg(test)]
mod tests {
    use rb_io::Limits;
    use rb_testkit::{MemDevice, MemEngine};

    use super::*;

    /// Regression test: a thread that gave its queue back took it again before the woken waiter
    /// ran. Of 16 threads on one queue some waited for 90 to 300 ms, with gets of 20 us.
    #[test]
    fn one_that_has_waited_is_not_passed_any_more() {
        let mut pool = Pool::default();
        assert!(!pool.is_kept(None));
        let (first, second) = (pool.join_line(), pool.join_line());
        std::thread::sleep(PASSED_MAX);
        assert!(pool.is_kept(None), "by one that has just come");
        assert!(pool.is_kept(Some(&second)), "by one that came later");
        assert!(!pool.is_kept(Some(&first)));
    }

    /// Regression test: a queue given back after the close was dropped, and its waiter waited for
    /// its whole patience.
    #[test]
    fn a_wait_for_a_lane_ends_with_the_close() {
        let device = MemDevice::with_limits(1 << 20, Limits::simple(512, 1 << 20, "memory device"));
        let engine = Arc::new(MemEngine::new(device));
        let lanes = Arc::new(Lanes::new(engine, Vec::new(), 1, 1, ByPurpose::default()));
        lanes.pool.lock().made = 1;
        let waits = Arc::clone(&lanes);
        let waits = std::thread::spawn(move || {
            let start = Instant::now();
            let lane = waits.checkout(&mut Patience::new(Duration::from_mins(1)));
            (lane.err(), start.elapsed())
        });
        while lanes.pool.lock().line.is_empty() {
            std::thread::yield_now();
        }
        lanes.close();
        let (why, waited) = waits.join().expect("it does not panic");
        assert!(matches!(why, Some(Error::Closed)), "{why:?}");
        assert!(waited < Duration::from_secs(30), "{waited:?}");
    }
}
