//! The same functions without the feature: empty.

use std::path::Path;

use rb_format::StoreUuid;
use rb_io::Rejected;

use crate::error::{Error, OpenError};
use crate::events::Event;
use crate::report::RecoveryReport;

#[derive(Debug)]
pub(crate) struct Span;

impl Span {
    pub(crate) fn none() -> Span {
        Span
    }

    pub(crate) fn done(self) {}
    pub(crate) fn end<T>(self, _: &Result<T, Error>) {}
    pub(crate) fn end_commit(self, _: &Result<usize, Error>) {}
    pub(crate) fn end_pass(self, _: u64, _: u64, _: u64, _: u64) {}

    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Trace;

impl Trace {
    pub(crate) fn get(&self, _: usize) -> Span {
        Span
    }

    pub(crate) fn put(&self, _: usize, _: impl FnOnce() -> usize) -> Span {
        Span
    }

    pub(crate) fn remove(&self, _: usize) -> Span {
        Span
    }

    pub(crate) fn sync(&self) -> Span {
        Span
    }

    pub(crate) fn commit(&self) -> Span {
        Span
    }

    pub(crate) fn checkpoint(&self) -> Span {
        Span
    }

    pub(crate) fn close(&self) -> Span {
        Span
    }

    pub(crate) fn scrub_pass(&self) -> Span {
        Span
    }

    pub(crate) fn ended<T>(
        &self,
        _: &'static str,
        _: Span,
        _: &[Result<T, Error>],
        _: impl Fn(&T) -> Option<usize>,
    ) {
    }

    pub(crate) fn reports_evictions(&self) -> bool {
        false
    }

    pub(crate) fn observed(&self, _: &Event<'_>) {}

    pub(crate) fn opened(
        &self,
        _: &Path,
        _: StoreUuid,
        _: (&'static str, &[Rejected]),
        _: bool,
        _: &RecoveryReport,
    ) {
    }

    pub(crate) fn quarantined(&self, _: u32, _: &Error) {}
    pub(crate) fn read_failed(&self, _: &'static str, _: u32, _: &Error) {}
    pub(crate) fn task_failed(&self, _: &'static str, _: &Error) {}
    pub(crate) fn checkpoint_failed(&self, _: &Error) {}
    pub(crate) fn committed(&self, _: impl FnOnce() -> Option<u64>) {}
    pub(crate) fn checkpointed(&self) {}
    pub(crate) fn direct_off(&self, _: impl FnOnce() -> Option<String>) {}
    pub(crate) fn discards_off(&self, _: impl FnOnce() -> Option<String>) {}
    pub(crate) fn closed(&self, _: &'static str, _: &Result<(), Error>) {}
}

pub(crate) fn open(_: &Path) -> Span {
    Span
}

pub(crate) fn recovery() -> Span {
    Span
}

pub(crate) fn stage(_: &'static str) -> Span {
    Span
}

pub(crate) fn open_failed(_: &Path, _: &OpenError) {}
