//! Pacing of background work: how much of it is in flight while callers use the device, and how
//! long it rests.
//!
//! All background services follow one rule. While callers use the device, a service works one
//! *turn* at a time, of at most [`TURN_BYTES`] and [`TURN_REQUESTS`], and after each turn rests
//! [`REST`] times as long as the turn took. Its share of the device's time is therefore bounded
//! from above and below: on a device slowed down by its callers, turns take longer and so do rests,
//! but no turn waits for callers to stop. While no caller uses the device there are neither turns
//! nor rests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;

/// Most bytes moved in one turn. A caller's request waits for at most this much background I/O.
pub(crate) const TURN_BYTES: usize = 128 << 10;

/// Most transfers in one turn.
pub(crate) const TURN_REQUESTS: usize = 4;

/// Most bytes of one discard, which is a turn of its own. Most devices discard far faster than they
/// move the same number of bytes.
pub(crate) const TURN_DISCARD_BYTES: u64 = 8 << 20;

/// Length of a rest in units of the turn before it.
const REST: u32 = 9;

/// Longest rest, so that a device that is slow for a moment does not stop a service for long.
const REST_MAX: Duration = Duration::from_secs(1);

/// Callers count as using the device while a call is in progress and for this time after the last
/// one was seen.
const QUIET_AFTER: Duration = Duration::from_millis(100);

/// Counts the calls that use the device or wait for it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A call that uses the device; ends on drop.
pub(crate) struct Using<'a>(&'a Load);

impl Load {
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the caller as using the device until the return value is dropped.
    pub(crate) fn using(&self) -> Using<'_> {
        self.begin();
        Using(self)
    }
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Decides when a service works and when it rests.
pub(crate) struct Pace<'a> {
    /// `None`: at full speed.
    yielding: Option<Yielding<'a>>,
}

struct Yielding<'a> {
    load: &'a Load,
    clock: &'a dyn Clock,
    /// Waits for the given time. Returns false, immediately, once the service must hurry.
    wait: &'a dyn Fn(Duration) -> bool,
    /// Calls begun at the last look.
    seen: u64,
    /// The last time a call was seen in progress, or seen for the first time.
    busy_at: Option<Duration>,
    /// Start of the current turn.
    since: Duration,
}

impl<'a> Pace<'a> {
    /// A pace for work that a caller waits for: no turns, no rests.
    pub(crate) fn full() -> Pace<'static> {
        Pace { yielding: None }
    }

    /// A pace that yields to the calls of `load`. `wait` waits for the given time, and returns
    /// false as soon as the service must hurry; from then on it runs at full speed.
    pub(crate) fn yielding(
        load: &'a Load,
        clock: &'a dyn Clock,
        wait: &'a dyn Fn(Duration) -> bool,
    ) -> Pace<'a> {
        Pace {
            yielding: Some(Yielding {
                load,
                clock,
                wait,
                seen: 0,
                busy_at: None,
                since: clock.now(),
            }),
        }
    }

    /// Returns whether callers use the device, so that the service must work turn by turn.
    pub(crate) fn yields(&mut self) -> bool {
        self.yielding.as_mut().is_some_and(Yielding::is_busy)
    }

    /// Begins a turn.
    pub(crate) fn begin(&mut self) {
        if let Some(yielding) = &mut self.yielding {
            yielding.since = yielding.clock.now();
        }
    }

    /// Ends a turn: rests if callers use the device, then begins the next turn.
    pub(crate) fn rest(&mut self) {
        let Some(yielding) = &mut self.yielding else {
            return;
        };
        let worked = yielding.clock.now().saturating_sub(yielding.since);
        if yielding.is_busy() && !(yielding.wait)(worked.saturating_mul(REST).min(REST_MAX)) {
            // The service must hurry: full speed from here on.
            self.yielding = None;
        }
        self.begin();
    }
}

impl Yielding<'_> {
    fn is_busy(&mut self) -> bool {
        let now = self.clock.now();
        // `ended` first: a call that ends between the two loads then counts as in progress, never
        // the reverse.
        let ended = self.load.ended.load(Ordering::Relaxed);
        let begun = self.load.begun.load(Ordering::Relaxed);
        if begun != ended || begun != self.seen {
            (self.seen, self.busy_at) = (begun, Some(now));
        }
        self.busy_at
            .is_some_and(|at| now.saturating_sub(at) < QUIET_AFTER)
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
