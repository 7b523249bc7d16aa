//! Threads that get values and record the latency of each get.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rb_bench::{Draws, key};
use rb_core::Store;

use crate::Failure;

/// Share of the drive's time that the gets use.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// About three quarters.
    Partial,
    /// All of it: more requests than the drive serves at the same time.
    Saturated,
}

impl Load {
    pub(crate) const ALL: [Load; 2] = [Load::Partial, Load::Saturated];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Load::Partial => "partial",
            Load::Saturated => "saturated",
        }
    }

    /// Returns the number of threads and their average pause.
    fn shape(self) -> (u64, Duration) {
        match self {
            Load::Partial => (12, Duration::from_millis(7)),
            Load::Saturated => (16, Duration::ZERO),
        }
    }
}

/// Latencies of gets, in ascending order.
pub(crate) struct Latencies {
    sorted: Vec<Duration>,
    time: Duration,
}

impl Latencies {
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        let at = (self.sorted.len() as f64 * quantile) as usize;
        let found = self.sorted.get(at.min(self.sorted.len().saturating_sub(1)));
        found.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    pub(crate) fn count(&self) -> usize {
        self.sorted.len()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.sorted.len() as f64 / self.time.as_secs_f64()
    }
}

/// Gets values `0..values` while `during` runs. `during` calls its argument to begin the measurement.
pub(crate) fn get_during<T>(
    store: &Store,
    load: Load,
    values: u64,
    during: impl FnOnce(&dyn Fn()) -> Result<T, Failure>,
) -> Result<(Latencies, T), Failure> {
    let (threads, pause) = load.shape();
    let (counts, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let reader = |seed: u64| -> Result<Vec<Duration>, rb_core::Error> {
        let (mut draws, mut took) = (Draws::new(seed), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let key = key(draws.below(values));
            let start = Instant::now();
            let found = store.get(&key)?;
            let time = start.elapsed();
            assert!(found.is_some(), "a value is missing");
            drop(found);
            if counts.load(Ordering::Relaxed) {
                took.push(time);
            }
            if !pause.is_zero() {
                // Exponentially distributed pauses: requests arrive at random.
                let drawn = (1 + draws.below(1_000_000)) as f64 / 1e6;
                std::thread::sleep(pause.mul_f64(-drawn.ln()));
            }
        }
        Ok(took)
    };
    std::thread::scope(|scope| {
        let reader = &reader;
        let spawn = |seed| scope.spawn(move || reader(seed));
        let readers: Vec<_> = (0..threads).map(spawn).collect();
        std::thread::sleep(Duration::from_millis(200));
        let start = Cell::new(Instant::now());
        let outcome = during(&|| {
            start.set(Instant::now());
            counts.store(true, Ordering::Relaxed);
        });
        let time = start.get().elapsed();
        stop.store(true, Ordering::Relaxed);
        let mut sorted = Vec::new();
        for reader in readers {
            let took = reader.join().map_err(|_| "a reader panicked")?;
            sorted.extend(took?);
        }
        sorted.sort_unstable();
        Ok((Latencies { sorted, time }, outcome?))
    })
}
