//! Prints everything that decides what a store does next, for searches that skip states they have
//! visited.
//!
//! Every structure is destructured by field name, so that a new field does not compile until it is
//! handled here.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::background::Services;
use crate::background::checkpoint::Checkpointer;
use crate::background::scrub::Scrubber;
use crate::clock::Clock;
use crate::core::inner::Inner;
use crate::core::writer::Writer;
use crate::log::delta::DeltaLog;
use crate::store::Store;

impl Store {
    /// Passes every part of the state in memory to `show`, by name.
    ///
    /// Excluded are constants, values that are only reported, and resources that never run out in a
    /// search: buffers and queues.
    #[doc(hidden)]
    pub fn each_part(&self, show: &mut dyn FnMut(&str, fmt::Arguments<'_>)) {
        let Inner {
            path: _,
            device: _,
            rejected: _,
            superblock: _,
            identity: _,
            geometry: _,
            options,
            index,
            arena: _,
            lanes: _,
            gate,
            poison,
            flushing,
            counters: _,
            recovery: _,
            keeping,
            direct: _,
            writer,
        } = &**self.inner();
        index.each_part(show);
        show("gate", format_args!("{gate:?}"));
        show("poison", format_args!("{poison:?}"));
        let held = (flushing.is_locked(), self.is_closing());
        show("held", format_args!("{held:?}"));
        show("keeping", format_args!("{keeping:?}"));
        let Services {
            checkpointer,
            validator,
            scrubber,
            discards,
            monitor: _,
            stop: _,
        } = &**self.background();
        let bases = checkpointer.as_ref().map(Checkpointer::state);
        show("checkpointer", format_args!("{bases:?}"));
        // The next checkpoint writes them.
        let lifetime = self.inner().lifetime();
        show("lifetime", format_args!("{lifetime:?}"));
        let scrubs = scrubber.as_ref().map(Scrubber::is_busy);
        let tasks = (validator.place(), scrubs, discards.is_some());
        show("tasks", format_args!("{tasks:?}"));
        if let Some(writer) = writer {
            writer.each_part(options.clock.as_ref(), show);
        }
    }
}

impl Writer {
    fn each_part(&self, clock: &dyn Clock, show: &mut dyn FnMut(&str, fmt::Arguments<'_>)) {
        let Writer {
            incarnation: _,
            counter,
            log,
            committer,
            lost: _,
            quarantine,
            // Held in no state between two steps.
            evicting: _,
            discards_freed,
            unwritable,
        } = self;
        show(
            "generation",
            format_args!("{}", counter.load(Ordering::Relaxed)),
        );
        DeltaLog::each_part(log, show);
        let serves = committer.try_lock().map(|committer| committer.state(clock));
        show("committer", format_args!("{serves:?}"));
        show("quarantine", format_args!("{:?}", quarantine.lock()));
        show("discards", format_args!("{discards_freed:?}"));
        show("unwritable", format_args!("{:?}", unwritable.lock().bad()));
    }
}
