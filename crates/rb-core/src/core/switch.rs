//! Switch points: where a simulator may run other operations.

use parking_lot::{Mutex, MutexGuard};

use crate::core::inner::Inner;
use crate::simulator::{Change, HeldLock, SwitchPoint};

impl Inner {
    /// Marks a point between two steps of an operation.
    #[inline]
    pub(crate) fn switch(&self, point: SwitchPoint) {
        if let Some(simulator) = &self.options.simulator {
            simulator.switch(point);
        }
    }

    /// Reports a change that took effect.
    #[inline]
    pub(crate) fn changed(&self, change: &Change<'_>) {
        if let Some(simulator) = &self.options.simulator {
            simulator.changed(change);
        }
    }

    /// Reports that an entry was dropped, if it was `live`.
    #[inline]
    pub(crate) fn changed_if(&self, live: bool, key: &[u8], generation: u64) {
        if live {
            self.changed(&Change::Dropped { key, generation });
        }
    }

    /// Takes a lock that is held over I/O. Under a simulator the holder may be an operation that
    /// runs only when the simulator lets it, so this yields instead of blocking.
    pub(crate) fn lock_over_io<'a, T>(
        &self,
        mutex: &'a Mutex<T>,
        lock: HeldLock,
    ) -> MutexGuard<'a, T> {
        let Some(simulator) = &self.options.simulator else {
            return mutex.lock();
        };
        loop {
            if let Some(guard) = mutex.try_lock() {
                return guard;
            }
            simulator.blocked(lock);
        }
    }

    /// Runs the operations in progress to their end, if a simulator drives them.
    pub(crate) fn drain_simulated(&self) {
        if let Some(simulator) = &self.options.simulator {
            while !self.gate.refuse() {
                simulator.blocked(HeldLock::Gate);
            }
        }
    }
}
