//! Events of a store, and their bound.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use rb_format::StoreUuid;
use rb_io::Rejected;
use tracing::{Level, event};

use super::bound::{Kind, Window};
use super::span::{self, Span, TARGET, is_on, word};
use crate::error::{Error, OTHER_WRITER, OpenError, error_chain};
use crate::events::{DropReason, Event, shielded};
use crate::report::{RecoveryReport, list};

/// The reports of a store: their bound, and those that are made once.
#[derive(Debug)]
pub(crate) struct Trace {
    start: Instant,
    windows: Mutex<[Window; Kind::ALL.len()]>,
    /// Names of metadata for which there is no space.
    lacking: Mutex<Vec<&'static str>>,
    /// True from the report that a checkpoint is overdue until one was written.
    overdue: AtomicBool,
    discards_off: AtomicBool,
}

impl Default for Trace {
    fn default() -> Trace {
        Trace {
            start: Instant::now(),
            windows: Mutex::default(),
            lacking: Mutex::default(),
            overdue: AtomicBool::new(false),
            discards_off: AtomicBool::new(false),
        }
    }
}

/// Reports an event of a kind that is bounded.
macro_rules! bounded {
    ($trace:expr, $kind:ident, $level:ident, { $($fields:tt)* }, $message:literal) => {
        $trace.bounded(Kind::$kind, Level::$level, |left_out| {
            event!(target: TARGET, Level::$level, { $($fields)*, left_out }, $message);
        })
    };
}

/// Reports an event.
macro_rules! report {
    ($level:ident, { $($fields:tt)* }, $message:literal) => {
        if is_on(Level::$level) {
            shielded(|| event!(target: TARGET, Level::$level, { $($fields)* }, $message));
        }
    };
}

/// Spans; each starts here and ends when it is dropped.
impl Trace {
    #[inline]
    pub(crate) fn get(&self, keys: usize) -> Span {
        span::get(keys)
    }

    #[inline]
    pub(crate) fn put(&self, keys: usize, bytes: impl FnOnce() -> usize) -> Span {
        span::put(keys, bytes)
    }

    #[inline]
    pub(crate) fn remove(&self, keys: usize) -> Span {
        span::remove(keys)
    }

    pub(crate) fn sync(&self) -> Span {
        span::sync()
    }

    pub(crate) fn commit(&self) -> Span {
        span::commit()
    }

    pub(crate) fn checkpoint(&self) -> Span {
        span::checkpoint()
    }

    pub(crate) fn close(&self) -> Span {
        span::close()
    }

    pub(crate) fn scrub_pass(&self) -> Span {
        span::scrub_pass()
    }
}

/// Events. The caller holds no lock of a shard, the log or the index.
impl Trace {
    fn bounded(&self, kind: Kind, level: Level, report: impl FnOnce(Option<u64>)) {
        if !is_on(level) {
            return;
        }
        let admitted = self.windows.lock()[kind as usize].admit(self.start.elapsed());
        if let Some(left_out) = admitted {
            shielded(|| report((left_out > 0).then_some(left_out)));
        }
    }

    /// Ends the span of an operation with one result per key, and reports those that came late.
    pub(crate) fn ended<T>(
        &self,
        operation: &'static str,
        span: Span,
        answers: &[Result<T, Error>],
        done: impl Fn(&T) -> Option<usize>,
    ) {
        span.end_all(answers, done);
        if !is_on(Level::WARN) {
            return;
        }
        let mut late = answers.iter().filter_map(|answer| match answer {
            Err(Error::TimedOut { waited }) => Some(waited),
            _ => None,
        });
        if let Some(waited) = late.next() {
            let keys = 1 + late.count();
            let seconds = waited.as_secs_f64();
            bounded!(self, Late, WARN, { operation, keys, seconds }, "operation timed out");
        }
    }

    /// Returns whether evictions are reported.
    #[inline]
    pub(crate) fn reports_evictions(&self) -> bool {
        is_on(Level::TRACE)
    }

    /// Reports an event of which an observer is notified, too.
    pub(crate) fn observed(&self, event: &Event<'_>) {
        match *event {
            Event::Evicted {
                generation,
                len,
                class,
                ..
            } => report!(TRACE, { class, bytes = len, generation }, "entry evicted"),
            Event::Dropped {
                slot,
                generation,
                len,
                class,
                reason,
                ..
            } => {
                let found_by = match reason {
                    DropReason::FailedVerification => "get",
                    DropReason::FailedValidation => "validator",
                    DropReason::FailedScrub => "scrubber",
                    DropReason::Expired => {
                        report!(DEBUG, { slot, class, bytes = len, generation }, "entry expired");
                        return;
                    }
                };
                let bytes = len;
                bounded!(self, Dropped, WARN, { found_by, slot, class, bytes, generation }, "entry dropped");
            }
            Event::BadSlot { slot } => bounded!(self, BadSlot, WARN, { slot }, "slot is bad"),
            Event::MetadataWriteFailed { what, offset } => {
                bounded!(self, MetadataWrite, WARN, { what, offset }, "metadata write failed");
            }
            Event::OutOfSpace { what } => {
                let mut lacking = self.lacking.lock();
                if !lacking.contains(&what) {
                    lacking.push(what);
                }
                drop(lacking);
                bounded!(self, Space, ERROR, { what }, "out of space");
            }
            Event::Poisoned { reason } => {
                if reason.contains(OTHER_WRITER) {
                    report!(ERROR, { reason }, "another writer has the device");
                }
                report!(ERROR, { reason }, "writing stopped");
            }
        }
    }

    /// Reports a store that was opened, and what its recovery found.
    pub(crate) fn opened(
        &self,
        path: &Path,
        uuid: StoreUuid,
        (engine, rejected): (&'static str, &[Rejected]),
        read_only: bool,
        found: &RecoveryReport,
    ) {
        let rejected = rejected.iter().map(|engine| {
            let Rejected { kind, reason } = engine;
            format!("{kind}: {reason}")
        });
        let rejected: Vec<_> = rejected.collect();
        report!(INFO, {
            path = %path.display(),
            uuid = %uuid,
            engine,
            rejected = (!rejected.is_empty()).then(|| rejected.join("; ")),
            read_only,
            entries = found.entries,
            clean = found.clean,
            log_blocks = found.log_blocks,
            seconds = found.total_time.as_secs_f64(),
        }, "opened");
        if let Some(reason) = &found.lost_metadata {
            let (entries, scanned) = (found.entries, found.scanned.is_some());
            report!(ERROR, { reason, entries, scanned }, "metadata was lost");
        } else if !found.clean && !read_only {
            let (entries, log_blocks) = (found.entries, found.log_blocks);
            report!(WARN, { entries, log_blocks }, "unclean shutdown");
        }
        for finding in findings(found) {
            bounded!(self, Finding, WARN, { finding }, "recovery found");
        }
    }

    /// Reports slots that a failed write took out of use.
    pub(crate) fn quarantined(&self, slot: u32, error: &Error) {
        bounded!(self, Quarantined, WARN, { slot, error = error_chain(error) }, "slot quarantined");
    }

    /// Reports a value that could not be read. `by` names the reader.
    pub(crate) fn read_failed(&self, by: &'static str, slot: u32, error: &Error) {
        bounded!(self, ReadFailed, WARN, { by, slot, error = error_chain(error) }, "read failed");
    }

    /// Reports a background task that the device interrupted.
    pub(crate) fn task_failed(&self, task: &'static str, error: &Error) {
        bounded!(self, TaskFailed, WARN, { task, error = error_chain(error) }, "background task failed");
    }

    pub(crate) fn checkpoint_failed(&self, error: &Error) {
        bounded!(
            self,
            Checkpoint,
            WARN,
            { error = error_chain(error) },
            "checkpoint failed"
        );
    }

    /// Reports that there is space again, if there was none. `what` was written.
    fn written(&self, what: &'static str) {
        if !is_on(Level::INFO) {
            return;
        }
        let mut lacking = self.lacking.lock();
        let before = lacking.len();
        lacking.retain(|lacks| *lacks != what);
        let ended = lacking.len() < before;
        drop(lacking);
        if ended {
            bounded!(self, Space, INFO, { what }, "space again");
        }
    }

    /// Reports what ended with a commit, and a checkpoint that is overdue: `blocks` returns how many blocks a restart would
    /// then replay.
    pub(crate) fn committed(&self, blocks: impl FnOnce() -> Option<u64>) {
        self.written("delta log");
        if is_on(Level::WARN)
            && !self.overdue.load(Ordering::Relaxed)
            && let Some(blocks) = blocks()
            && !self.overdue.swap(true, Ordering::Relaxed)
        {
            bounded!(self, Checkpoint, WARN, { blocks }, "checkpoint overdue");
        }
    }

    /// Reports what ended with a checkpoint.
    pub(crate) fn checkpointed(&self) {
        self.overdue.store(false, Ordering::Relaxed);
        self.written("delta log");
        self.written("checkpoint base");
    }

    /// Reports lent memory that is copied from now on, if `off` returns why.
    pub(crate) fn direct_off(&self, off: impl FnOnce() -> Option<String>) {
        if is_on(Level::WARN)
            && let Some(reason) = off()
        {
            report!(WARN, { reason }, "direct memory turned off");
        }
    }

    /// Reports once that slots are not discarded, if `off` returns why.
    pub(crate) fn discards_off(&self, off: impl FnOnce() -> Option<String>) {
        if is_on(Level::WARN)
            && let Some(reason) = off()
            && !self.discards_off.swap(true, Ordering::Relaxed)
        {
            report!(WARN, { reason }, "discards turned off");
        }
    }

    /// Reports the end of the store, and how many events were left out.
    pub(crate) fn closed(&self, how: &'static str, outcome: &Result<(), Error>) {
        let windows = std::mem::take(&mut *self.windows.lock());
        for (kind, mut window) in Kind::ALL.into_iter().zip(windows) {
            let count = window.take_left_out();
            if count > 0 {
                report!(WARN, { kind = ?kind, count }, "events left out");
            }
        }
        match outcome {
            Ok(()) => report!(INFO, { how }, "closed"),
            Err(error) => {
                let kind = word(error);
                report!(ERROR, { how, kind, error = error_chain(error) }, "close failed");
            }
        }
    }
}

/// Reports an open that failed.
pub(crate) fn open_failed(path: &Path, error: &OpenError) {
    let path = path.display();
    match error {
        OpenError::Foreign { found, .. } => {
            report!(ERROR, { path = %path, found = list(found) }, "foreign data refused");
        }
        error => {
            report!(ERROR, { path = %path, error = error_chain(error) }, "open failed");
        }
    }
}

/// Findings of a recovery that an operator should know, apart from lost metadata.
fn findings(found: &RecoveryReport) -> Vec<String> {
    let mut findings: Vec<String> = Vec::new();
    let all = [&found.base_damage, &found.one_copy, &found.superblock_left];
    findings.extend(all.into_iter().flatten().cloned());
    findings.extend(found.foreign.iter().map(ToString::to_string));
    if found.superblock_repaired {
        findings.push("a superblock copy was repaired".to_owned());
    }
    if found.copies_unwritten > 0 {
        let blocks = found.copies_unwritten;
        findings.push(format!("blocks that the device did not rewrite: {blocks}"));
    }
    if found.bad_slots > 0 {
        findings.push(format!("bad slots: {}", found.bad_slots));
    }
    if let Some(bytes) = found.cut_to {
        findings.push(format!("the device was cut to {bytes} bytes"));
    }
    findings.extend(
        [&found.unallocated, &found.page_cache]
            .into_iter()
            .flatten()
            .cloned(),
    );
    if let Some(left) = found.few_openings_left() {
        findings.push(format!("openings for writing that are left: {left}"));
    }
    findings
}
