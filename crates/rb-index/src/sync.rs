//! All locks and atomics of this crate: everything shared between threads uses them, so that the
//! models in `loom_tests` run the real code on loom's primitives.
//!
//! Loom is enabled only in this crate's own tests (`all(test, rb_loom)`): the flag is global to a
//! build and must not change the behaviour of other crates. Counters that only feed
//! [`crate::IndexStats`], and hints, use the standard library in both builds ([`Tally`]): nothing
//! relies on them, and modelling them would multiply the schedules to explore.

pub(crate) use self::chosen::{AtomicU8, Guard, Lock, Meeting, step_aside, zeros};
pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::Ordering;

use std::sync::atomic::{AtomicU32, AtomicU64};

/// A number that is only reported, or a hint: its user looks again under the lock.
#[derive(Debug, Default, zerocopy::FromZeros)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    pub(crate) fn new(value: u64) -> Tally {
        Tally(AtomicU64::new(value))
    }

    /// Adds to the value and returns the previous one.
    pub(crate) fn add(&self, amount: u64) -> u64 {
        self.0.fetch_add(amount, Ordering::Relaxed)
    }

    /// Sets the value to 0 and returns the previous one.
    pub(crate) fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Raises the value to `value` if that is higher.
    pub(crate) fn raise(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

/// The same with 32 bits, for large tables of hints.
#[derive(Debug, Default, zerocopy::FromZeros)]
pub(crate) struct Tally32(AtomicU32);

impl Tally32 {
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
}

#[cfg(not(all(test, rb_loom)))]
mod chosen {
    /// A place at which the models may switch threads, because a hint is read or written there. Nothing otherwise.
    #[derive(Debug)]
    pub(crate) struct Meeting;

    impl Meeting {
        pub(crate) fn new() -> Meeting {
            Meeting
        }

        #[inline]
        pub(crate) fn meet(&self) {}
    }

    pub(crate) use std::sync::atomic::AtomicU8;
    use std::time::{Duration, Instant};

    pub(crate) type Guard<'a, T> = parking_lot::MutexGuard<'a, T>;

    /// Allocates `len` zero bytes.
    pub(crate) fn zeros(len: usize) -> Result<Box<[AtomicU8]>, crate::memory::NoMemory> {
        crate::memory::zeroed(len)
    }

    /// Hands the lock to a waiting thread, if any, before continuing.
    pub(crate) fn step_aside<T>(guard: &mut Guard<'_, T>) {
        parking_lot::MutexGuard::bump(guard);
    }

    /// A lock that does not poison: a caller's panic while it holds a guard leaves the index
    /// usable, because every method completes its own transitions.
    #[derive(Debug)]
    pub(crate) struct Lock<T>(parking_lot::Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Lock<T> {
            Lock(parking_lot::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> Guard<'_, T> {
            self.0.lock()
        }

        pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
            self.0.try_lock()
        }

        /// Locks, and returns how long that took if another thread held the lock at first.
        pub(crate) fn lock_counted(&self) -> (Guard<'_, T>, Option<Duration>) {
            if let Some(guard) = self.0.try_lock() {
                return (guard, None);
            }
            let start = Instant::now();
            let guard = self.0.lock();
            (guard, Some(start.elapsed()))
        }
    }
}

#[cfg(all(test, rb_loom))]
mod chosen {
    pub(crate) use loom::sync::atomic::AtomicU8;
    use std::time::Duration;

    pub(crate) type Guard<'a, T> = loom::sync::MutexGuard<'a, T>;

    #[derive(Debug)]
    pub(crate) struct Meeting(AtomicU8);

    impl Meeting {
        pub(crate) fn new() -> Meeting {
            Meeting(AtomicU8::new(0))
        }

        pub(crate) fn meet(&self) {
            self.0.swap(0, super::Ordering::AcqRel);
        }
    }

    pub(crate) fn zeros(len: usize) -> Result<Box<[AtomicU8]>, crate::memory::NoMemory> {
        Ok((0..len).map(|_| AtomicU8::new(0)).collect())
    }

    // Loom explores every order of lock acquisition anyway.
    pub(crate) fn step_aside<T>(_: &mut Guard<'_, T>) {}

    #[derive(Debug)]
    pub(crate) struct Lock<T>(loom::sync::Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Lock<T> {
            Lock(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> Guard<'_, T> {
            self.0
                .lock()
                .expect("loom locks are not poisoned in a passing model")
        }

        pub(crate) fn try_lock(&self) -> Option<Guard<'_, T>> {
            self.0.try_lock().ok()
        }

        // A first `try_lock` would double the schedules and change nothing but a statistic.
        pub(crate) fn lock_counted(&self) -> (Guard<'_, T>, Option<Duration>) {
            (self.lock(), None)
        }
    }
}
