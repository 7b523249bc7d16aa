//! Time and randomness of a store as traits, so that a simulator can control both.

use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::OpenError;

/// A monotonic clock, and the time of day.
pub trait Clock: Send + Sync + Debug {
    /// The time since a fixed point; never decreases.
    fn now(&self) -> Duration;

    /// Blocks until `time` has passed.
    fn sleep(&self, time: Duration);

    /// The time of day, by which values expire; the system's by default. It may be set, so it may
    /// decrease.
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The system's monotonic clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// Makes a clock that reads zero now.
    #[must_use]
    pub fn new() -> SystemClock {
        SystemClock(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A clock that moves only by [`ManualClock::advance`] and [`Clock::sleep`]. Its time of day moves
/// with it, from the beginning of 1970 or from where [`ManualClock::set_wall`] sets it.
///
/// ```
/// use std::time::Duration;
/// use rb_core::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(1));
/// clock.sleep(Duration::from_secs(2));
/// assert_eq!(clock.now(), Duration::from_secs(3));
/// ```
#[derive(Debug, Default)]
pub struct ManualClock {
    now: AtomicU64,
    /// The time of day when `now` was 0, in nanoseconds since 1970; wraps.
    wall: AtomicU64,
}

impl ManualClock {
    /// Makes a clock that reads zero.
    #[must_use]
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Moves the clock forward. Resolution is one nanosecond; the clock wraps after 584 years.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.now.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Sets the time of day; [`Clock::now`] does not change. Times before 1970 count as 1970.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use rb_core::{Clock, ManualClock};
    ///
    /// let clock = ManualClock::new();
    /// clock.set_wall(UNIX_EPOCH + Duration::from_secs(100));
    /// clock.advance(Duration::from_secs(1));
    /// assert_eq!(clock.wall(), UNIX_EPOCH + Duration::from_secs(101));
    /// ```
    pub fn set_wall(&self, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let at_zero = nanos.wrapping_sub(self.now.load(Ordering::Relaxed));
        self.wall.store(at_zero, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.now.load(Ordering::Relaxed))
    }

    fn wall(&self) -> SystemTime {
        let (now, at_zero) = (&self.now, &self.wall);
        let nanos = at_zero
            .load(Ordering::Relaxed)
            .wrapping_add(now.load(Ordering::Relaxed));
        UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    /// Moves the clock forward.
    fn sleep(&self, time: Duration) {
        self.advance(time);
    }
}

/// A source of random bytes, for store UUIDs and the nonces of incarnations.
pub trait Random: Send + Sync + Debug {
    /// Fills `out`.
    ///
    /// # Errors
    /// The system's error if it has no random bytes.
    fn fill(&self, out: &mut [u8]) -> std::io::Result<()>;
}

/// Draws `N` bytes from `random`.
///
/// # Errors
/// [`OpenError::Resource`] if the system has no random bytes.
pub(crate) fn draw<const N: usize>(random: &dyn Random) -> Result<[u8; N], OpenError> {
    let mut drawn = [0; N];
    random.fill(&mut drawn).map_err(|why| OpenError::Resource {
        what: "random bytes",
        why: why.to_string(),
    })?;
    Ok(drawn)
}

/// The operating system's random source.
#[derive(Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) -> std::io::Result<()> {
        getrandom::fill(out).map_err(|error| std::io::Error::other(error.to_string()))
    }
}

/// A reproducible sequence from a seed (`SplitMix64`), for simulations. Not for production: two
/// stores with the same seed would share their UUID.
///
/// ```
/// use rb_core::{Random, SeededRandom};
///
/// let draw = |seed| {
///     let mut bytes = [0; 16];
///     SeededRandom::new(seed).fill(&mut bytes).map(|()| bytes)
/// };
/// assert_eq!(draw(1)?, draw(1)?);
/// assert_ne!(draw(1)?, draw(2)?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SeededRandom(Mutex<u64>);

impl SeededRandom {
    /// Makes the sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> SeededRandom {
        SeededRandom(Mutex::new(seed))
    }
}

impl Random for SeededRandom {
    fn fill(&self, out: &mut [u8]) -> std::io::Result<()> {
        let mut state = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for chunk in out.chunks_mut(8) {
            // SplitMix64, Steele et al., "Fast splittable pseudorandom number generators", 2014.
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
