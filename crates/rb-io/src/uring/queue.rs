//! A queue of the ring-based engines.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::arenas::Registered;
use super::wake::WakeSource;
use crate::board::Wait;
use crate::device::Device;
use crate::engine::{Feature, Queue, QueueCounters, QueueOptions};
use crate::limits::SEGMENT_BYTES;
use crate::request::{OpKind, Part, PartDone};
use crate::sys::encode::Encoder;
use crate::sys::ring::{Ended, Flavour, Ring};
use crate::wake::Waker;

/// How long a dropped queue waits for its parts before it leaves their memory to the kernel.
const DROP_WAIT: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 30_000 });
/// Number of consecutive EAGAIN or EBUSY results allowed. The sleep between them grows from the
/// shortest to 64 times that, so together they take a little under a second.
const REFUSALS_MAX: u32 = 200;
/// With at least this many parts in flight, a queue lingers until a quarter of them have completed.
const LINGER_DEPTH: u32 = 8;
const REFUSAL_SLEEP: Duration = Duration::from_micros(100);

pub(super) struct UringQueue<E: Encoder> {
    ring: Ring<E>,
    device: Arc<Device>,
    registered: Registered,
    wake: WakeSource,
    depth: u32,
    /// The requested linger time, if the kernel supports it.
    linger: Option<Duration>,
    /// Number of parts pushed and not yet taken by the kernel.
    unsubmitted: u32,
    /// Parts refused without being sent; reaped like any other.
    invalid: Vec<PartDone>,
    counters: QueueCounters,
    report: Vec<Feature>,
}

impl<E: Encoder> UringQueue<E> {
    pub(super) fn new(
        mut ring: Ring<E>,
        device: Arc<Device>,
        options: &QueueOptions,
    ) -> io::Result<Self> {
        let wake = WakeSource::new()?;
        let file = match ring.register_file() {
            Ok(()) => Feature::on("registered file", "one"),
            Err(error) => Feature::off("registered file", error.to_string()),
        };
        let limits = device.limits();
        let segments_max = limits.segments_max.map_or(u64::MAX, |segments| {
            u64::from(segments.value).saturating_mul(SEGMENT_BYTES)
        });
        // The largest part that the splitter makes.
        let part_max = limits.transfer_max.value.min(segments_max);
        let registered = Registered::new(&mut ring, &options.arenas, part_max, true);
        let mut report = vec![file];
        report.extend(flavour_report(ring.flavour(), options));
        report.push(if !ring.can_linger() {
            Feature::off("lingering", "this kernel lacks IORING_FEAT_MIN_TIMEOUT")
        } else if options.linger.is_zero() {
            Feature::off("lingering", "possible, this queue does not ask for it")
        } else {
            Feature::on("lingering", format!("up to {:?}", options.linger))
        });
        report.push(match device.limits().placements {
            Some(max) => Feature::on("placement", format!("{} ids ({})", max.value, max.source)),
            None => Feature::off("placement", "the device has none"),
        });
        let linger = Some(options.linger).filter(|linger| !linger.is_zero() && ring.can_linger());
        Ok(Self {
            ring,
            device,
            registered,
            wake,
            depth: options.depth,
            linger,
            unsubmitted: 0,
            invalid: Vec::new(),
            counters: QueueCounters::default(),
            report,
        })
    }

    /// Moves completions to `done`; returns whether a wake poll was among them.
    fn drain(&mut self, done: &mut Vec<PartDone>) -> io::Result<()> {
        done.append(&mut self.invalid);
        let wake = &mut self.wake;
        self.ring.pop_all(|ended| match ended {
            Ended::Wake(fired) => wake.ended(fired),
            Ended::Part(part, result) => done.push(PartDone {
                token: part.token,
                buf: part.buf,
                result,
            }),
        })
    }

    /// Calls `io_uring_enter` once. Results that only mean "again" are `Ok`.
    fn enter(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        linger: Option<Duration>,
        refusals: &mut u32,
    ) -> io::Result<()> {
        self.counters.enters += 1;
        if at_least > 0 && self.ring.in_flight() > 0 {
            self.counters.waits += 1;
            self.counters.in_flight_at_waits += u64::from(self.ring.in_flight());
        }
        let error = match self.ring.enter(at_least, timeout, linger) {
            Ok(taken) => {
                self.counters.submissions += u64::from(taken > 0 && self.unsubmitted > 0);
                self.unsubmitted = self.unsubmitted.min(self.ring.unsubmitted());
                *refusals = 0;
                return Ok(());
            }
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EINTR) => Ok(()),
            // EAGAIN: no memory for requests now. EBUSY: completions must be fetched first, which
            // the caller does before it calls again.
            Some(libc::EAGAIN | libc::EBUSY) if *refusals < REFUSALS_MAX => {
                *refusals += 1;
                let sleep = REFUSAL_SLEEP * (1 << (*refusals / 16).min(6));
                std::thread::sleep(sleep.min(timeout.unwrap_or(sleep)));
                Ok(())
            }
            Some(libc::EEXIST) => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the queue was opened for one thread and is used by another",
            )),
            _ => Err(error),
        }
    }

    /// Submits pushed parts without waiting.
    fn submit_all(&mut self) -> io::Result<()> {
        let mut refusals = 0;
        // The kernel may take fewer parts in one call than it was given.
        while self.unsubmitted > 0 {
            self.enter(0, None, None, &mut refusals)?;
            if refusals > 0 {
                // `reap` fetches completions; there is no place for them here.
                break;
            }
        }
        Ok(())
    }
}

impl<E: Encoder> Queue for UringQueue<E> {
    fn engine(&self) -> &'static str {
        E::NAME
    }

    fn capacity_bytes(&self) -> u64 {
        self.device.capacity_bytes()
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn in_flight(&self) -> u32 {
        // Never above the depth, which is a u32.
        self.ring.in_flight() + self.invalid.len() as u32
    }

    fn push(&mut self, mut part: Part) -> Result<(), Part> {
        if self.in_flight() >= self.depth {
            return Err(part);
        }
        if let Err(error) = self.ring.prepare(&mut part) {
            let Part { token, buf, .. } = part;
            self.invalid.push(PartDone {
                token,
                buf,
                result: Err(error),
            });
            return Ok(());
        }
        let transfers = matches!(part.op, OpKind::Read | OpKind::Write);
        let piece = self.registered.window_of(&mut self.ring, &part);
        self.ring.push(part, piece)?;
        self.unsubmitted += 1;
        self.counters.fixed_parts += u64::from(transfers && piece.is_some());
        self.counters.unregistered_parts += u64::from(transfers && piece.is_none());
        self.counters.count_push(self.in_flight());
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        self.submit_all()
    }

    fn reap(
        &mut self,
        at_least: u32,
        timeout: Option<Duration>,
        done: &mut Vec<PartDone>,
    ) -> io::Result<()> {
        let wait = Wait::new(at_least, timeout);
        let before = done.len();
        let mut refusals = 0;
        loop {
            self.drain(done)?;
            let missing = wait.missing(done.len() - before, self.in_flight());
            if missing == 0 {
                if self.unsubmitted == 0 && !(at_least == 0 && self.ring.has_deferred_work()) {
                    return Ok(());
                }
                self.enter(0, None, None, &mut refusals)?;
                if self.unsubmitted == 0 {
                    return self.drain(done);
                }
                continue;
            }
            if self.wake.consume() {
                self.counters.wakes += 1;
                // The wake ends the wait, but parts that were pushed before it must still start.
                return self.submit_all();
            }
            let left = wait.time_left();
            if left == Some(Duration::ZERO) {
                // A caller that only polls never waits, so its parts are sent here.
                self.submit_all()?;
                return self.drain(done);
            }
            // A wake is an additional completion that may arrive at any time. If a waker exists,
            // each completion is examined, or all completions of a short period; without one the
            // kernel counts them.
            let heard = self.wake.is_used() || self.in_flight() == 0;
            if heard && !self.wake.arm(&mut self.ring) {
                self.wake.awake();
                continue;
            }
            let (wait_for, linger) = match self.linger {
                _ if !heard => (missing, None),
                Some(linger) if self.in_flight() >= LINGER_DEPTH => {
                    (self.in_flight() / 4, Some(linger))
                }
                _ => (1, None),
            };
            let entered = self.enter(wait_for, left, linger, &mut refusals);
            if heard {
                self.wake.awake();
            }
            entered?;
        }
    }

    fn cancel(&mut self, tokens: &[u64]) {
        // An error means that the queue has failed, which the next `reap` returns.
        _ = self.submit_all();
        // What finds no room in the ring goes on: cancelling is no promise.
        self.unsubmitted += self.ring.push_cancels(|part| tokens.contains(&part.token));
        _ = self.submit_all();
    }

    fn waker(&self) -> Waker {
        self.wake.waker()
    }

    fn counters(&self) -> QueueCounters {
        self.counters
    }

    fn report(&self) -> Vec<Feature> {
        let mut report = vec![self.registered.report()];
        report.extend_from_slice(&self.report);
        report
    }
}

impl<E: Encoder> Drop for UringQueue<E> {
    fn drop(&mut self) {
        if !self.ring.is_here() {
            // A forked child shares the ring with its parent and would steal its completions.
            return;
        }
        let deadline = Instant::now() + DROP_WAIT;
        let mut done = Vec::new();
        while self.ring.in_flight() > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            // An error means that waiting is useless (for example, another thread owns the ring);
            // the ring then keeps the memory of its parts forever.
            if left.is_zero() || self.reap(u32::MAX, Some(left), &mut done).is_err() {
                break;
            }
        }
    }
}

fn flavour_report(flavour: Flavour, options: &QueueOptions) -> [Feature; 2] {
    const ISSUER: &str = "single issuer";
    const TASKS: &str = "deferred task run";
    match flavour {
        Flavour::Deferred => [
            Feature::on(ISSUER, "the thread that uses the queue first"),
            Feature::on(TASKS, "IORING_SETUP_DEFER_TASKRUN"),
        ],
        _ if options.issuer == crate::Issuer::Any => [
            Feature::off(ISSUER, "any thread may use the queue"),
            Feature::off(
                TASKS,
                format!("needs a single issuer; {}", task_words(flavour)),
            ),
        ],
        _ => [
            Feature::off(ISSUER, "this kernel refused IORING_SETUP_SINGLE_ISSUER"),
            Feature::off(
                TASKS,
                format!("this kernel refused it; {}", task_words(flavour)),
            ),
        ],
    }
}

fn task_words(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Cooperative => "IORING_SETUP_COOP_TASKRUN is used",
        Flavour::Deferred | Flavour::Plain => "no task run flag is used",
    }
}
