//! Everything that decides what a store does next, in words: for searches that cut off what they have seen before.
//!
//! Every structure is taken apart by name: a field that is added does not compile before it is said what it is.

use std::fmt;
use std::sync::atomic::Ordering;

use crate::clock::Clock;
use crate::core::inner::{Inner, Writer};
use crate::log::delta::DeltaLog;
use crate::store::Store;

impl Store {
    /// Shows every part of the state in memory by its name.
    ///
    /// Left out is what never changes, what is only reported, and what there must be enough of for all operations:
    /// buffers and queues.
    #[doc(hidden)]
    pub fn each_part(&self, show: &mut dyn FnMut(&str, fmt::Arguments<'_>)) {
        let Inner {
            path: _,
            engine: _,
            rejected: _,
            reservation: _,
            superblock: _,
            identity: _,
            geometry: _,
            options,
            index,
            arena: _,
            lanes: _,
            driver: _,
            gate,
            poison,
            flushing,
            counters: _,
            validator,
            scrubber,
            recovery: _,
            writer,
        } = &**self.inner();
        index.each_part(show);
        show("gate", format_args!("{gate:?}"));
        show("poison", format_args!("{poison:?}"));
        let held = (
            flushing.is_locked(),
            self.is_closing(),
            validator.is_locked(),
        );
        show("held", format_args!("{held:?}"));
        let places = validator
            .try_lock()
            .map(|validator| validator.place.clone());
        let scrubs = scrubber.as_ref().map(|scrubber| scrubber.is_locked());
        show("duties", format_args!("{:?}", (places, scrubs)));
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
            checkpointer,
            quarantine,
            discards,
            unwritable,
        } = self;
        show(
            "generation",
            format_args!("{}", counter.load(Ordering::Relaxed)),
        );
        DeltaLog::each_part(log, show);
        let serves = committer
            .try_lock()
            .map(|committer| committer.reading_serves(clock));
        show("committer", format_args!("{serves:?}"));
        let bases = checkpointer.try_lock();
        let bases = bases.map(|bases| (bases.newest.clone(), bases.last_sequence));
        show("checkpointer", format_args!("{bases:?}"));
        show("quarantine", format_args!("{:?}", quarantine.lock()));
        show("discards", format_args!("{}", discards.is_some()));
        show("unwritable", format_args!("{:?}", unwritable.lock().bad()));
    }
}
