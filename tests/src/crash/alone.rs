//! Operations that need the store exclusively: restarts, emptying, and faults that a run causes step by step.

use std::time::Duration;

use rb_core::Store;
use rb_format::FORMAT_BLOCK;
use rb_io::OpKind;

use super::history::Why;
use super::puts::EIO;
use super::states::State;
use super::values::{all_slots, number};
use super::version::ABSENT;
use super::world::World;

impl World {
    /// Runs one of them.
    pub(super) fn alone(&self) {
        match self.random(12) {
            0 => self.break_a_slot(),
            1 | 2 => self.fail_a_discard(),
            3 | 4 => self.damage_a_slot(),
            5..10 => self.drop_and_open(),
            10 => self.empty(),
            _ => self.format_again(),
        }
    }

    /// Closes the store and opens it again, while others may run. There is no crash, so nothing may be missing. A close
    /// during another one returns the same result.
    pub(super) fn close(&self) {
        let Some(store) = self.store() else { return };
        let others = std::mem::replace(&mut self.lock().closing, true);
        self.trace(|| "close".into());
        let closed = store.close();
        drop(store);
        self.trace(|| format!("close: {closed:?}"));
        if let Err(error) = &closed {
            self.fail(format!("close failed: {error}"));
        }
        if !others {
            self.shut();
            let acknowledged = self.lock().oracle.acknowledged();
            self.are_durable(&acknowledged, Why::Close);
            self.reopen(true);
        }
    }

    /// Drops the store and opens it again. The drop commits all acknowledged changes.
    fn drop_and_open(&self) {
        let acknowledged = self.lock().oracle.acknowledged();
        self.trace(|| "drop".into());
        self.shut();
        self.are_durable(&acknowledged, Why::Close);
        self.reopen(false);
        // Leases that end, and slots that are discarded, while the entries are validated.
        self.lease();
        self.lease();
        self.remove(4);
        self.commit();
    }

    fn reopen(&self, closed: bool) {
        if let Err(why) = self.open(|_| {}) {
            return self.fail(format!("reopening: {why}"));
        }
        let Some(store) = self.store() else { return };
        let report = store.recovery();
        if let Some(lost) = &report.lost_metadata {
            self.fail(format!("metadata lost without a crash: {lost}"));
        }
        if closed && !report.clean {
            self.fail("a store that was closed is not clean".into());
        }
        self.check_found();
    }

    /// Checks that a restart without a crash found what the store held.
    fn check_found(&self) {
        let illegal = self.lock().illegal.clone();
        for key in illegal {
            let words = self.lock().oracle.explain_restart(key);
            self.check::<()>(Err(format!("after a restart without a crash {words}")));
        }
    }

    /// Opens the store with all entries dropped.
    pub(super) fn empty(&self) {
        self.shut();
        self.record(|oracle, now| oracle.begin_emptying(false, now));
        self.trace(|| "empty".into());
        if let Err(why) = self.open(|options| options.start_empty = true) {
            self.fail(format!("starting empty: {why}"));
        }
    }

    /// Formats the device again, over the old store.
    pub(super) fn format_again(&self) {
        self.shut();
        self.record(|oracle, now| oracle.begin_emptying(true, now));
        self.trace(|| "format".into());
        if let Err(why) = self.format() {
            return self.fail(format!("formatting again: {why}"));
        }
        self.record(super::oracle::Oracle::emptied);
        if let Err(why) = self.open(|_| {}) {
            self.fail(format!("opening after a format: {why}"));
        }
    }

    /// A discard fails, and may still land; the next put may use the slot where it lands.
    fn fail_a_discard(&self) {
        let Some(places) = self.places() else { return };
        let late = self.random(3) > 0;
        match late {
            true => self.device.late_discard(places.slots, EIO),
            false => self.device.fail_next(OpKind::Discard, places.slots, EIO),
        }
        let failures = || {
            let store = self.store();
            store.map_or(0, |store| store.stats().discard.failures)
        };
        let before = failures();
        self.remove(4);
        self.commit();
        self.discard();
        self.reach(State::LateDiscard, late && failures() > before);
        self.put(5);
        self.sync();
        self.device.heal();
    }

    /// A slot fails every write of its header or payload, until it is given up or the run has tried enough.
    fn break_a_slot(&self) {
        let Some(store) = self.store() else { return };
        let slots = u64::from(store.geometry().slots());
        let Some(offset) = store.geometry().slot_offset(self.random(slots) as u32) else {
            return;
        };
        // Its header, or its payload: as a further slot of a value it gets two writes.
        let payload = offset + FORMAT_BLOCK as u64;
        let broken = match self.random(2) {
            0 => offset..offset + 1,
            _ => payload..payload + 1,
        };
        let before = bad(&store);
        self.device.fail_always(OpKind::Write, broken, EIO);
        for _ in 0..24 {
            // Failures count only if they are ten seconds apart.
            self.clock.advance(Duration::from_secs(11));
            self.put(3);
            self.sync();
            if bad(&store) > before {
                break;
            }
        }
        self.device.heal();
    }

    /// Corrupts one byte of an entry on the medium, in any of its slots.
    fn damage_a_slot(&self) {
        let Some(store) = self.store() else { return };
        // Data that is still in the cache would be written again, intact.
        self.sync();
        let mut entries = Vec::new();
        store.for_each(|entry| {
            // Chosen from those that must be there: a second flip of the same byte would repair it.
            let sound = |key: &usize| {
                let inside = self.lock();
                inside
                    .oracle
                    .live(*key)
                    .is_some_and(|state| state.damaged.is_none())
            };
            if let Some(key) = number(&entry.key).filter(sound) {
                entries.push((key, all_slots(&entry), entry.len));
            }
            true
        });
        if entries.is_empty() {
            return;
        }
        let (key, slots, len) = entries.swap_remove(self.random(entries.len() as u64) as usize);
        let geometry = store.geometry();
        let capacity = geometry.slot_capacity(slots[0]).unwrap_or(1);
        // Each slot is as likely as any other, however little of the value is in it.
        let number = self.random(slots.len() as u64);
        let part = (u64::from(len) - number * capacity).min(capacity);
        let Some(offset) = geometry.slot_offset(slots[number as usize]) else {
            return;
        };
        let in_header = self.random(4) == 0;
        let at = match in_header {
            true => offset + self.random(FORMAT_BLOCK as u64),
            false => offset + FORMAT_BLOCK as u64 + self.random(part),
        };
        self.trace(|| format!("rot in {key}, part {number}, header: {in_header}"));
        self.record(|oracle, now| oracle.damaged(key, now));
        self.device.corrupt(at..at + 1);
        self.lock().rotten = true;
        self.reach(State::SlotRot, number == 0);
        self.reach(State::SeveralRot, number > 0 && !in_header);
        if in_header {
            // Not every read needs it: the value, or a miss.
            drop(self.get_keys(&[key]));
        } else if self.get_keys(&[key]) != [Some(ABSENT)] {
            self.fail(format!("key {key} was served, and its bytes are rotten"));
        }
    }
}

/// Returns the number of slots that were given up.
fn bad(store: &Store) -> u64 {
    let stats = store.stats();
    stats.index.classes.iter().map(|class| class.bad).sum()
}
