//! Background work yields to callers: how much of it is under way while they use the device, and how long it rests.
//!
//! The rule, which all services keep: while callers use the device, a service works in *turns* of at most
//! [`TURN_BYTES`] and [`TURN_REQUESTS`], and after each rests [`REST`] times as long as the turn took. So it has a part of
//! the device's time that is bounded from above and from below: on a device that is slower because of its callers, turns
//! and with them rests are longer, and no turn waits until callers are gone. While no caller uses the device there are
//! neither turns nor rests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;

/// Bytes of the transfers of a turn together. A caller's request waits for no more of a service's.
pub(crate) const TURN_BYTES: usize = 128 << 10;

/// Transfers of a turn.
pub(crate) const TURN_REQUESTS: usize = 4;

/// Bytes of a discard, which is a turn alone: most devices need far less time for them than to move as many.
pub(crate) const TURN_DISCARD_BYTES: u64 = 8 << 20;

/// A service rests this many times as long as a turn took.
const REST: u32 = 9;

/// The longest rest, so that a device that is slow just now does not keep a service from its work.
const REST_MAX: Duration = Duration::from_secs(1);

/// Callers use the device as long as a call of theirs is under way, and for this time after it was seen.
const QUIET_AFTER: Duration = Duration::from_millis(100);

/// The calls that use the device, or wait for it.
#[derive(Debug, Default)]
pub(crate) struct Load {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A call that uses the device.
pub(crate) struct Using<'a>(&'a Load);

impl Load {
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Until what it returns is dropped, the caller uses the device.
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

/// When a service works, and when it rests.
pub(crate) struct Pace<'a> {
    /// None: at full speed.
    yielding: Option<Yielding<'a>>,
}

struct Yielding<'a> {
    load: &'a Load,
    clock: &'a dyn Clock,
    /// Waits for so long. False, and at once, if the service is to hurry.
    wait: &'a dyn Fn(Duration) -> bool,
    /// Calls that had begun when it looked last.
    seen: u64,
    /// When it last saw a call that it had not seen end before.
    busy_at: Option<Duration>,
    /// When the turn began.
    since: Duration,
}

impl<'a> Pace<'a> {
    /// For work that someone waits for: no turns, no rests.
    pub(crate) fn full() -> Pace<'static> {
        Pace { yielding: None }
    }

    /// For work that yields to the calls of `load`. `wait` waits for the time it is given, and returns false at once, or as
    /// soon as, the service is to hurry; from then on it goes at full speed.
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

    /// Whether callers use the device, so that the service works in turns.
    pub(crate) fn yields(&mut self) -> bool {
        self.yielding.as_mut().is_some_and(Yielding::is_busy)
    }

    /// A turn begins.
    pub(crate) fn begin(&mut self) {
        if let Some(yielding) = &mut self.yielding {
            yielding.since = yielding.clock.now();
        }
    }

    /// A turn ends: rests, if callers use the device. The next turn begins.
    pub(crate) fn rest(&mut self) {
        let Some(yielding) = &mut self.yielding else {
            return;
        };
        let worked = yielding.clock.now().saturating_sub(yielding.since);
        if yielding.is_busy() && !(yielding.wait)(worked.saturating_mul(REST).min(REST_MAX)) {
            self.yielding = None;
        }
        self.begin();
    }
}

impl Yielding<'_> {
    fn is_busy(&mut self) -> bool {
        let now = self.clock.now();
        // In this order: a call that ends in between is taken for one that is under way.
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
