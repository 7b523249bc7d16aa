//! Checks of a store that a crash left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rb_core::{AuditOptions, OpenError};
use rb_testkit::{CrashImage, MemEngine};

use super::history::Step;
use super::legal::Legal;
use super::states::State;
use super::values::slots_of;
use super::version::{ABSENT, KEYS, Version};
use super::world::World;
use crate::schedule::words;

/// A crash: its world, its moment, and what it may have left.
pub(super) struct Crash<'a> {
    pub(super) world: &'a World,
    pub(super) at: Step,
    pub(super) legal: &'a Legal,
}

impl Crash<'_> {
    /// Opens a store after the crash and checks its entries, and all values if it `reads` them. Returns false if there
    /// legally is no store.
    pub(super) fn open(&self, child: &World, reads: bool) -> bool {
        match catch_unwind(AssertUnwindSafe(|| child.open(|_| {}))) {
            Err(why) => child.fail(format!("a panic: {}", words(why.as_ref()))),
            Ok(Err(OpenError::NotAStore { .. } | OpenError::Superblock { .. }))
                if self.legal.or_no_store =>
            {
                return false;
            }
            Ok(Err(why)) => child.fail(format!("opening after a crash: {why}")),
            Ok(Ok(())) => {
                let check = || self.check(child, reads);
                if let Err(why) = catch_unwind(AssertUnwindSafe(check)) {
                    child.fail(format!("a panic: {}", words(why.as_ref())));
                }
            }
        }
        true
    }

    fn check(&self, child: &World, reads: bool) {
        let Some(store) = child.store() else { return };
        let report = store.recovery();
        if let Some(lost) = &report.lost_metadata {
            child.fail(format!("a crash lost the metadata: {lost}"));
        }
        // A torn header is not a base. A sound one must name sections that exist.
        if let Some(why) = report
            .base_damage
            .iter()
            .find(|why| !why.contains(": header"))
        {
            child.fail(format!("a crash left a base that is not whole: {why}"));
        }
        child.reach(State::OlderBase, !report.base_damage.is_empty());
        child.reach(State::Closed, report.clean && report.log_records > 0);
        let empty = (0..KEYS).all(|key| child.lock().oracle.key(key).current().version == ABSENT);
        if !(self.legal.or_empty && empty) {
            self.check_entries(child);
            if reads {
                self.check_values(child);
            }
        }
        if let Err(why) = store.audit() {
            child.fail(format!("accounting after a crash: {why}"));
        }
    }

    /// Checks the entries that recovery found, before any value is read: an illegal entry counts even if it is never
    /// served.
    fn check_entries(&self, child: &World) {
        let illegal = child.lock().illegal.clone();
        for key in illegal {
            let version = child.lock().oracle.key(key).current().version;
            if version == ABSENT || !self.legal.keys[key].may_miss(version) {
                self.is_illegal(child, key, version);
            }
        }
    }

    /// Reads every key.
    pub(super) fn check_values(&self, child: &World) {
        let keys: Vec<usize> = (0..KEYS).collect();
        let found: Vec<_> = keys.chunks(1).flat_map(|key| child.get_keys(key)).collect();
        for (key, version) in found.into_iter().enumerate() {
            let Some(version) = version else { continue };
            let legal = &self.legal.keys[key];
            let was_several = slots_of(child.lock().oracle.key(key).current().version) > 1;
            child.reach(State::SeveralRecovered, slots_of(version) > 1);
            child.reach(State::SeveralHollow, was_several && version == ABSENT);
            child.trace(|| format!("after the crash key {key} is v{version}, legal {legal:?}"));
            let entry = child.lock().oracle.key(key).current().version;
            let missed = version == ABSENT && entry != ABSENT && legal.may_miss(entry);
            if !missed && !legal.versions.contains(&version) {
                self.is_illegal(child, key, version);
            }
            let (unsure, newest) = (legal.versions.len() > 1, legal.versions.last());
            child.reach(State::UnsyncedKept, unsure && Some(&version) == newest);
            child.reach(State::UnsyncedLost, unsure && Some(&version) != newest);
        }
    }

    fn is_illegal(&self, child: &World, key: usize, version: Version) {
        if child.lock().oracle.loose {
            return;
        }
        let why = self.world.explain(self.at, key, version);
        let words = format!("after a crash {why}");
        let mut inside = child.lock();
        match &mut inside.violation {
            // The violation that a read reported has less detail.
            Some(violation) if !violation.contains("after a crash") => {
                violation.push_str("; ");
                violation.push_str(&words);
            }
            Some(_) => {}
            none => *none = Some(words),
        }
    }
}

/// An audit must never report what a crash leaves as damage: false alarms make audits useless.
pub(super) fn audit(world: &World, image: &CrashImage) {
    if world.lock().rotten {
        return;
    }
    let deep = AuditOptions {
        deep: true,
        ..AuditOptions::default()
    };
    match rb_core::audit(Arc::new(MemEngine::new(image.device())), &deep) {
        Ok(report) if report.damages == 0 => {}
        Ok(report) => world.fail(format!("a crash was called damage: {report:?}")),
        Err(why) => world.fail(format!("a crash cannot be audited: {why}")),
    }
}
