//! Steps 2 to 4 of a get: the reads of a batch of hits and their verification.

use std::cmp::Reverse;
use std::sync::Arc;

use rb_index::{Located, LockPurpose, SlotId};
use rb_io::{Buffer, Completion, Patience, Request};

use crate::core::inner::Inner;
use crate::counters::add;
use crate::error::Error;
use crate::events::{DropReason, Event};
use crate::ops::batch::Batch;
use crate::ops::get_hit::{Answer, PendingGet, Read, Target};
use crate::simulator::SwitchPoint;

/// Hits whose reads are in flight together. The batch owns their leases.
pub(crate) struct GetBatch {
    inner: Arc<Inner>,
    /// Hits without a result, grouped by shard.
    hits: Vec<PendingGet>,
    /// The number of the first hits that are read in the current round. All of them, unless they are
    /// copied to the caller's memory by more buffers than the batch may have at once.
    round: usize,
    /// Buffers of the next round: one per hit that needs one, or none.
    buffers: Vec<Buffer>,
    answers: Vec<(usize, Answer)>,
}

impl GetBatch {
    /// A batch of hits for their first read; `answers` are results that are known already. `hits`
    /// must be grouped by shard.
    pub(crate) fn new(
        inner: &Arc<Inner>,
        hits: Vec<PendingGet>,
        mut answers: Vec<(usize, Answer)>,
    ) -> GetBatch {
        debug_assert!(
            hits.is_sorted_by_key(|hit| hit.shard),
            "hits of one shard stand together, so that each lock is taken once"
        );
        answers.reserve(hits.len());
        GetBatch {
            inner: Arc::clone(inner),
            answers,
            hits,
            round: 0,
            buffers: Vec::new(),
        }
    }

    /// Takes the buffers of the next round, all or none.
    pub(crate) fn take_buffers(&mut self, patience: &mut Patience) -> Result<(), Error> {
        // An async get has taken the buffers of its first round already.
        if self.buffers.is_empty() {
            let (mut bytes, limit) = (0, self.inner.arena.bytes() / 2);
            let fits = |hit: &&PendingGet| {
                bytes += hit.stride();
                bytes <= limit || !matches!(hit.target, Target::Copied(_))
            };
            self.round = self
                .hits
                .iter()
                .take_while(fits)
                .count()
                .max(1)
                .min(self.hits.len());
            let strides = self.hits[..self.round].iter().map(PendingGet::stride);
            let strides: Vec<usize> = strides.filter(|stride| *stride > 0).collect();
            self.buffers = self.inner.take_buffers(&strides, patience)?;
        }
        Ok(())
    }

    /// Returns whether it has nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.hits.is_empty()
    }

    /// Splits the batch into batches of at most `bytes` of buffers, but at least one hit each, in
    /// the order of the keys.
    pub(crate) fn split(mut self, bytes: usize) -> Vec<GetBatch> {
        if self.hits.iter().map(PendingGet::stride).sum::<usize>() <= bytes {
            return vec![self];
        }
        self.hits.sort_unstable_by_key(|hit| hit.at);
        let mut batches = Vec::new();
        let mut answers = self.answers;
        while !self.hits.is_empty() {
            let mut sum = 0;
            let fits = |hit: &&PendingGet| {
                sum += hit.stride();
                sum <= bytes
            };
            let count = self.hits.iter().take_while(fits).count().max(1);
            let mut hits: Vec<_> = self.hits.drain(..count).collect();
            hits.sort_unstable_by_key(|hit| (hit.shard, Reverse(hit.at)));
            let answers = std::mem::take(&mut answers);
            batches.push(GetBatch::new(&self.inner, hits, answers));
        }
        batches
    }

    /// Ends the leases of finished hits and records their results, with one lock hold per shard.
    /// Hits that failed verification for the first time, and those of a later round, stay for another
    /// read. Returns the key and the entry of each one that was invalidated, and appends those that could not be read to
    /// `unread`.
    fn end_leases(&mut self, unread: &mut Vec<(SlotId, Error)>) -> Vec<(Box<[u8]>, Located)> {
        let inner = &self.inner;
        let (mut again, mut dropped) = (Vec::new(), Vec::new());
        // Their loans end when this returns, with no lock held: that calls `when_free`'s callbacks.
        let mut unused = Vec::new();
        let later = self.hits.split_off(self.round);
        let mut hits = std::mem::take(&mut self.hits).into_iter().peekable();
        while let Some(number) = hits.peek().map(|hit| hit.shard) {
            let mut shard = inner.index.lock(number, LockPurpose::Operation);
            while let Some(mut hit) = hits.next_if(|hit| hit.shard == number) {
                let located = *hit.lease.located();
                debug_assert!(located.payload_len > 0, "no value is empty");
                let answer = match std::mem::replace(&mut hit.read, Read::Open) {
                    Read::Verified(buf) => {
                        shard.set_verified(&hit.lease);
                        let len = located.payload_len as usize;
                        add(&inner.counters.hits, 1);
                        add(&inner.counters.bytes_got, len);
                        let target = std::mem::replace(&mut hit.target, Target::Buffer);
                        Ok(target.found(buf, len, hit.metadata, located.generation))
                    }
                    Read::NoAccess => {
                        again.push(hit);
                        continue;
                    }
                    Read::Refuted if !hit.refuted => {
                        (hit.refuted, hit.whole) = (true, true);
                        again.push(hit);
                        continue;
                    }
                    Read::Refuted => {
                        // False if the key was put again or removed during the read, or another
                        // read was first.
                        if shard.invalidate(&hit.lease) {
                            inner.changed_if(true, &hit.key, located.generation);
                            dropped.push((hit.key, located));
                        }
                        add(&inner.counters.misses, 1);
                        Ok(None)
                    }
                    // The bytes are unknown, not wrong: the entry stays (C7).
                    Read::Failed(error) => {
                        if !error.is_given_up() {
                            add(&inner.counters.read_errors, 1);
                            unread.push((located.slot, error.clone()));
                        }
                        Err(error)
                    }
                    // The queue failed without completing this read.
                    Read::Open => Err(Error::Closed),
                };
                unused.push(hit.target);
                shard.release(hit.lease);
                self.answers.push((hit.at, answer));
            }
        }
        again.extend(later);
        // One round takes each shard's lock once.
        again.sort_by_key(|hit| hit.shard);
        self.hits = again;
        dropped
    }
}

impl Batch for GetBatch {
    type Answers = Vec<(usize, Answer)>;
    const LOOKS_EARLY: bool = true;

    /// Steps 2 and 3: one read per hit.
    fn requests(&mut self, patience: &mut Patience) -> Vec<Request> {
        if self.hits.is_empty() {
            return Vec::new();
        }
        if let Err(error) = self.take_buffers(patience) {
            self.refused(&error);
            return Vec::new();
        }
        self.inner.switch(SwitchPoint::Sending);
        let mut buffers = std::mem::take(&mut self.buffers).into_iter();
        let hits = self.hits[..self.round].iter_mut();
        let requests: Vec<Request> = hits
            .map(|hit| {
                let buffer = (hit.stride() > 0).then(|| buffers.next());
                hit.request(&self.inner, buffer.flatten())
            })
            .collect();
        assert!(
            buffers.next().is_none(),
            "each buffer was taken for one of these reads"
        );
        requests
    }

    /// Step 4, verification, while other reads are in flight.
    fn arrived(&mut self, answer: Completion) {
        let hit = &mut self.hits[answer.tag as usize];
        debug_assert!(matches!(hit.read, Read::Open), "a request completes once");
        hit.arrived(&self.inner, answer);
    }

    /// Step 4, the leases and the results.
    fn complete(&mut self, before_observer: &mut dyn FnMut()) {
        self.inner.switch(SwitchPoint::Verified);
        let mut unread = Vec::new();
        let dropped = self.end_leases(&mut unread);
        self.inner.switch(SwitchPoint::Released);
        add(&self.inner.counters.dropped, dropped.len());
        add(&self.inner.counters.dropped_by_get, dropped.len());
        if !dropped.is_empty() || !unread.is_empty() {
            before_observer();
        }
        // No lock is held here: observer and subscriber may call the store.
        let trace = &self.inner.counters.trace;
        for (slot, error) in &unread {
            trace.read_failed("get", slot.0, error);
        }
        trace.direct_off(|| self.inner.direct.newly_off());
        for (key, located) in &dropped {
            self.inner.emit(&Event::Dropped {
                key,
                slot: located.slot.0,
                generation: located.generation,
                len: located.payload_len,
                class: located.class,
                reason: DropReason::FailedVerification,
            });
        }
    }

    fn refused(&mut self, error: &Error) {
        let mut unused = Vec::new();
        let mut hits = std::mem::take(&mut self.hits).into_iter().peekable();
        while let Some(number) = hits.peek().map(|hit| hit.shard) {
            let mut shard = self.inner.index.lock(number, LockPurpose::Operation);
            while let Some(hit) = hits.next_if(|hit| hit.shard == number) {
                unused.push(hit.target);
                shard.release(hit.lease);
                self.answers.push((hit.at, Err(error.clone())));
            }
        }
    }

    fn answers(&mut self, late: Option<&Error>) -> Self::Answers {
        let mut answers = std::mem::take(&mut self.answers);
        for hit in &mut self.hits {
            let late = late.expect("a batch whose rounds are over has answered every hit");
            answers.push((hit.at, Err(late.clone())));
            // Ends the loan, unless the device has it.
            hit.target = Target::Gone;
        }
        answers
    }
}
