//! The memory side of the delta log: queued records, durable position, and free space of the ring.
//!
//! Lock order: shard lock, then this log's lock. Records are packed into blocks as they arrive, so
//! a commit only seals the open block and writes what is sealed. A *ticket* is the number of
//! records queued so far: `sync` waits until the durable ticket reaches the one it took.
//!
//! Space is reserved before a record exists: the record must be queued in the same hold of the
//! shard's lock that publishes its entry, where nothing may wait or fail. A [`LogReservation`]
//! covers the worst case of its records: the blocks they fill, and one partly filled block per
//! touched shard.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rb_format::{
    FORMAT_BLOCK, LOG_BLOCK_PAYLOAD, LogEncoder, LogPosition, Record, Region, log_block_offset,
    log_blocks,
};
use rb_io::Patience;

use crate::counters::raise;
use crate::error::Error;

/// Blocks kept free for the close record and for commits that seal a block early.
const RESERVED_BLOCKS: u64 = 8;

/// Most blocks queued and reserved for one commit, 2 MiB. Bounds the memory of a commit and how far
/// behind an apparent end recovery must look for a block that proves damage.
pub(crate) const COMMIT_BLOCKS_MAX: u64 = 512;

/// Blocks that recovery examines behind an apparent end: those of the commit that was being
/// written, and those of the next one, which name the former as durable.
pub(crate) const LOOKAHEAD_BLOCKS: u64 = 2 * COMMIT_BLOCKS_MAX + RESERVED_BLOCKS;

pub(crate) type Waiter = Box<dyn FnOnce(Result<(), Error>) + Send>;

pub(crate) struct DeltaLog {
    rings: [Region; 2],
    /// Blocks per ring.
    blocks: u64,
    state: Mutex<LogState>,
    /// Signalled when space is freed, the durable ticket advances, or the log stops.
    moved: Condvar,
    /// Signalled when a background thread has work to do.
    work: Condvar,
    /// Longest wait of an operation for this log, in nanoseconds.
    longest_wait: AtomicU64,
}

/// The part of the log that the valid bases need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retained {
    /// First block that the older of the two valid bases still needs.
    pub(crate) tail: u64,
    /// The newest base's position, where replay would start.
    pub(crate) newest: u64,
    /// Length of the newest base in format blocks.
    pub(crate) base_blocks: u64,
}

struct LogState {
    encoder: LogEncoder,
    /// First block that the older of the two valid bases still needs.
    tail: u64,
    /// The newest base's position, where replay would start.
    newest_base: u64,
    /// Blocks since the newest base at which the next checkpoint is due.
    due: u64,
    promised: u64,
    /// Callers that wait for space, in order of arrival. Only the first may take it: small batches
    /// that overtake a large one would starve it.
    line: VecDeque<u64>,
    /// Number of the next caller that has to wait.
    next_place: u64,
    ticket: u64,
    durable_ticket: u64,
    durable_sequence: u64,
    /// Time at which the oldest record that is not durable was queued.
    dirty_since: Option<Duration>,
    /// Time at which a commit is due even if nothing is queued.
    look_again: Option<Duration>,
    commit_wanted: bool,
    checkpoint_wanted: bool,
    /// True if a caller waits for the checkpoint that is being written.
    checkpoint_urgent: bool,
    discard_wanted: bool,
    /// True if the store is closing and waits for the discards in progress.
    discards_urgent: bool,
    /// No more commits: the store is poisoned or closed.
    stopped: bool,
    waiters: Vec<(u64, Waiter)>,
    /// Blocks that a commit found no space for. The next commit writes them first, unchanged.
    unwritten: Option<Pending>,
    /// Set from a commit that failed for lack of space until one succeeds.
    no_space: Option<NoSpace>,
    /// Waiters of a commit that failed for lack of space, with its error.
    refused: Vec<(Waiter, Error)>,
}

/// A lack of space for the log.
struct NoSpace {
    why: Error,
    /// Time of the next attempt, if no caller makes one before.
    retry_at: Duration,
    /// True if the observer was notified.
    reported: bool,
}

/// Blocks that a commit must write.
pub(crate) struct Pending {
    pub(crate) first_sequence: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) ticket: u64,
}

impl Pending {
    /// Sequence of its last block.
    pub(crate) fn last(&self) -> u64 {
        self.first_sequence + (self.bytes.len() / FORMAT_BLOCK) as u64 - 1
    }
}

/// The next task of a background thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Commit,
    Checkpoint,
    Discard,
    Stop,
}

/// Upper bound of the records that a batch will queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogSpace {
    bytes: usize,
    records: usize,
    /// Bytes of the longest record.
    longest: usize,
}

impl LogSpace {
    /// Space for one record without a key.
    pub(crate) fn small() -> LogSpace {
        let mut need = LogSpace::default();
        need.add(&[], &[], 1);
        need
    }

    /// Adds a record with this key and metadata, of a value in so many slots.
    pub(crate) fn add(&mut self, key: &[u8], metadata: &[u8], slots: usize) {
        let record = Record::put_len(key.len(), metadata.len(), slots);
        self.bytes += record;
        self.records += 1;
        self.longest = self.longest.max(record);
    }

    /// Most blocks the records may take: those they fill, and one partly filled block per shard
    /// lock hold, because a commit may seal a block in between.
    fn blocks(self, shards: usize) -> u64 {
        // A block is sealed when the next record does not fit, so its unused rest is shorter than
        // the longest record.
        let filled = self.bytes.div_ceil(LOG_BLOCK_PAYLOAD - self.longest);
        (filled + self.records.min(shards) + 1) as u64
    }
}

/// Space reserved for records; returned on drop.
#[must_use]
pub(crate) struct LogReservation {
    log: Arc<DeltaLog>,
    blocks: u64,
}

impl Drop for LogReservation {
    fn drop(&mut self) {
        let mut state = self.log.state.lock();
        assert!(
            state.promised >= self.blocks,
            "a reservation is given back once"
        );
        state.promised -= self.blocks;
        self.log.moved.notify_all();
    }
}

/// A checkpoint is never due before the log has so many blocks since the newest base.
const DUE_BLOCKS_MIN: u64 = 256;

/// Returns the blocks of log after which a checkpoint is due that follows a base of `base_blocks`: a
/// third of them, so that a restart replays a part of what it loads, however long the ring is. At
/// most a quarter of the ring: the older base is then at most half a ring back, which leaves the
/// other half for the time a checkpoint takes.
fn due_after(base_blocks: u64, ring_blocks: u64) -> u64 {
    (base_blocks / 3).max(DUE_BLOCKS_MIN).min(ring_blocks / 4)
}

impl DeltaLog {
    /// Creates the log, of which `retained` is needed.
    pub(crate) fn new(rings: [Region; 2], encoder: LogEncoder, retained: Retained) -> DeltaLog {
        let durable_sequence = encoder.next_sequence().saturating_sub(1);
        let blocks = log_blocks(&rings[0]);
        let state = LogState {
            encoder,
            tail: retained.tail,
            newest_base: retained.newest,
            due: due_after(retained.base_blocks, blocks),
            promised: 0,
            line: VecDeque::new(),
            next_place: 0,
            ticket: 0,
            durable_ticket: 0,
            durable_sequence,
            dirty_since: None,
            look_again: None,
            commit_wanted: false,
            checkpoint_wanted: false,
            checkpoint_urgent: false,
            discard_wanted: false,
            discards_urgent: false,
            stopped: false,
            waiters: Vec::new(),
            unwritten: None,
            no_space: None,
            refused: Vec::new(),
        };
        let log = DeltaLog {
            rings,
            blocks,
            state: Mutex::new(state),
            moved: Condvar::new(),
            work: Condvar::new(),
            longest_wait: AtomicU64::new(0),
        };
        // A recovered log may already be long.
        let full = log.is_checkpoint_due(&log.state.lock());
        log.state.lock().checkpoint_wanted = full;
        log
    }

    /// Returns whether one reservation can hold these records. A single record always fits.
    pub(crate) fn takes_at_once(&self, need: LogSpace, shards: usize) -> bool {
        need.records <= 1 || need.blocks(shards) <= COMMIT_BLOCKS_MAX.min(self.blocks / 4)
    }

    /// Reserves space for these records, which must be queued in at most one hold of each shard's
    /// lock.
    ///
    /// Waits for space up to `patience`, behind earlier callers. While the device has no space for
    /// the log, no caller is admitted: anything acknowledged now might be missing after a crash,
    /// however much later.
    pub(crate) fn admit(
        self: &Arc<Self>,
        need: LogSpace,
        shards: usize,
        patience: &mut Patience,
    ) -> Result<LogReservation, Error> {
        let blocks = need.blocks(shards);
        let mut state = self.lock_timed();
        state.check_space()?;
        // Even with space free, earlier callers go first.
        if !state.stopped && state.line.is_empty() && self.has_room(&mut state, blocks) {
            return Ok(self.promise(&mut state, blocks));
        }
        let start = Instant::now();
        let place = state.next_place;
        state.next_place += 1;
        state.line.push_back(place);
        let admitted = loop {
            if state.stopped {
                break Err(Error::Closed);
            }
            if let Err(no_space) = state.check_space() {
                break Err(no_space);
            }
            if state.line.front() == Some(&place) && self.has_room(&mut state, blocks) {
                break Ok(());
            }
            if patience.is_over() {
                break Err(Error::Busy {
                    what: "space in the delta log",
                    waited: patience.limit(),
                });
            }
            patience.spend(|step| self.moved.wait_for(&mut state, step));
        };
        state.line.retain(|waiting| *waiting != place);
        // There may be space for the next caller.
        self.moved.notify_all();
        admitted?;
        raise(&self.longest_wait, start.elapsed());
        Ok(self.promise(&mut state, blocks))
    }

    /// Returns whether there is space now. If not, requests the commit or checkpoint that frees
    /// some.
    fn has_room(&self, state: &mut LogState, blocks: u64) -> bool {
        // The open block counts as used.
        let used = state.encoder.next_sequence() + 1 - state.tail;
        let room = used + state.promised + blocks + RESERVED_BLOCKS <= self.blocks;
        let bounded = self.is_bounded(state, blocks);
        if !room || !bounded {
            state.commit_wanted |= !bounded;
            state.checkpoint_wanted |= !room;
            state.checkpoint_urgent |= !room;
            self.work.notify_all();
        }
        room && bounded
    }

    fn promise(self: &Arc<Self>, state: &mut LogState, blocks: u64) -> LogReservation {
        state.promised += blocks;
        LogReservation {
            log: Arc::clone(self),
            blocks,
        }
    }

    /// Queues records, in order, under the caller's shard lock and reservation. Returns the ticket
    /// at which they are durable.
    pub(crate) fn queue<'a>(
        &self,
        reservation: &LogReservation,
        records: impl IntoIterator<Item = Record<'a>>,
        now: Duration,
    ) -> u64 {
        let mut state = self.lock_timed();
        let state = &mut *state;
        let durable = state.durable_sequence;
        debug_assert!(
            Arc::as_ptr(&reservation.log) == std::ptr::from_ref(self),
            "the reservation is one of this log"
        );
        let before = state.ticket;
        let first = state.encoder.next_sequence();
        for record in records {
            state.encoder.push(&record, durable);
            state.ticket += 1;
        }
        assert!(
            state.encoder.next_sequence() - first <= reservation.blocks,
            "the records fit the space that was reserved for them"
        );
        if state.ticket != before && state.dirty_since.is_none() {
            state.dirty_since = Some(now);
            self.work.notify_all();
        }
        if self.is_checkpoint_due(state) && !state.checkpoint_wanted {
            state.checkpoint_wanted = true;
            self.work.notify_all();
        }
        state.ticket
    }

    /// Locks the state for an operation and records how long that took.
    fn lock_timed(&self) -> MutexGuard<'_, LogState> {
        if let Some(state) = self.state.try_lock() {
            return state;
        }
        let start = Instant::now();
        let state = self.state.lock();
        raise(&self.longest_wait, start.elapsed());
        state
    }

    pub(crate) fn longest_wait(&self) -> Duration {
        Duration::from_nanos(self.longest_wait.load(Ordering::Relaxed))
    }

    fn is_checkpoint_due(&self, state: &LogState) -> bool {
        state.encoder.next_sequence() - state.newest_base >= state.due
    }

    /// The current position, read under a shard's lock: every record queued later is in this block
    /// or a later one.
    pub(crate) fn position(&self) -> LogPosition {
        self.state.lock().encoder.position()
    }

    /// Seals the open block and returns the start position of a checkpoint: everything queued so
    /// far is in earlier blocks. A base that names this position therefore proves that all before
    /// it was durable.
    pub(crate) fn start_of_checkpoint(&self) -> LogPosition {
        let mut state = self.state.lock();
        let durable = state.durable_sequence;
        state.encoder.seal(durable);
        state.encoder.position()
    }

    /// Fails while the device has no space for the log.
    pub(crate) fn check_space(&self) -> Result<(), Error> {
        self.state.lock().check_space()
    }

    /// Returns whether a batch must wait for a commit before it is admitted.
    pub(crate) fn needs_commit_for(&self, need: LogSpace, shards: usize) -> bool {
        !self.is_bounded(&self.state.lock(), need.blocks(shards))
    }

    fn is_bounded(&self, state: &LogState, blocks: u64) -> bool {
        state.encoder.sealed_blocks() as u64 + state.promised + blocks <= COMMIT_BLOCKS_MAX
    }

    pub(crate) fn ticket(&self) -> u64 {
        self.state.lock().ticket
    }

    pub(crate) fn is_durable(&self, ticket: u64) -> bool {
        self.state.lock().durable_ticket >= ticket
    }

    /// Takes the blocks of the next commit: those the last one found no space for, or else
    /// everything queued. Returns `None` if all is durable. Never both together, because the size
    /// of a commit is bounded.
    pub(crate) fn take(&self) -> Option<Pending> {
        let mut state = self.state.lock();
        if let Some(unwritten) = state.unwritten.take() {
            // `commit_wanted` stays set: records queued later need a commit after this one.
            return Some(unwritten);
        }
        state.commit_wanted = false;
        state.look_again = None;
        if state.ticket == state.durable_ticket {
            return None;
        }
        let durable = state.durable_sequence;
        state.encoder.seal(durable);
        let sealed = state.encoder.take_sealed();
        assert!(
            sealed.first_sequence > state.durable_sequence && !sealed.bytes.is_empty(),
            "records that are not durable are in blocks that are not"
        );
        state.dirty_since = None;
        Some(Pending {
            first_sequence: sealed.first_sequence,
            bytes: sealed.bytes,
            ticket: state.ticket,
        })
    }

    /// Keeps `pending` for the next commit, at the latest at `retry_at`, because there was no space
    /// for it. A block always gets the same bytes at the same place, so rewriting one that was
    /// already written, or half written, is harmless. No later block is written before.
    pub(crate) fn put_back(&self, pending: Pending, why: &Error, retry_at: Duration) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let reported = state
            .no_space
            .as_ref()
            .is_some_and(|before| before.reported);
        assert!(
            state.unwritten.is_none(),
            "a commit takes what the last one left before it takes more"
        );
        state.unwritten = Some(pending);
        let why = why.clone();
        // Waiters of later records fail, too: those records cannot become durable first.
        let waiters = state.waiters.drain(..);
        let refused = waiters.map(|(_, waiter)| (waiter, why.clone()));
        state.refused.extend(refused);
        state.commit_wanted = false;
        state.no_space = Some(NoSpace {
            why,
            retry_at,
            reported,
        });
        self.moved.notify_all();
        self.work.notify_all();
    }

    /// Returns whether the next commit rewrites blocks that the last one found no space for.
    pub(crate) fn has_unwritten(&self) -> bool {
        self.state.lock().unwritten.is_some()
    }

    /// Takes the waiters of commits that failed for lack of space, and whether the observer must
    /// still be notified. The caller must hold no lock when it notifies them.
    #[must_use]
    pub(crate) fn take_refused(&self) -> (Vec<(Waiter, Error)>, bool) {
        let mut state = self.state.lock();
        let reported = state
            .no_space
            .as_mut()
            .map(|no_space| &mut no_space.reported);
        let news = reported.is_some_and(|reported| !std::mem::replace(reported, true));
        (std::mem::take(&mut state.refused), news)
    }

    /// Records that everything up to `ticket` is durable. Returns the waiters, to be notified when
    /// the caller holds no lock: they may call the store.
    #[must_use]
    pub(crate) fn mark_durable(&self, last_sequence: u64, ticket: u64) -> Vec<Waiter> {
        let mut state = self.state.lock();
        assert!(
            ticket <= state.ticket && last_sequence < state.encoder.next_sequence(),
            "nothing is durable that was not queued"
        );
        state.durable_sequence = state.durable_sequence.max(last_sequence);
        state.durable_ticket = state.durable_ticket.max(ticket);
        state.no_space = None;
        self.moved.notify_all();
        take_ready(&mut state)
    }

    /// Requests a commit even if nothing is queued, because a slot waits for a flush.
    pub(crate) fn want_commit(&self) {
        self.state.lock().commit_wanted = true;
        self.work.notify_all();
    }

    /// Requests a commit at `time` at the latest, unless queued records trigger one.
    pub(crate) fn want_commit_at(&self, time: Duration) {
        let mut state = self.state.lock();
        let sooner = state.look_again.filter(|already| *already < time);
        state.look_again = Some(sooner.unwrap_or(time));
        drop(state);
        self.work.notify_all();
    }

    /// Reports that slots can be discarded.
    pub(crate) fn want_discard(&self) {
        self.state.lock().discard_wanted = true;
        self.work.notify_all();
    }

    /// Reserves space for one record out of the reserve; for the close record.
    pub(crate) fn admit_reserved(self: &Arc<Self>) -> Result<LogReservation, Error> {
        let blocks = LogSpace::small().blocks(1);
        let mut state = self.state.lock();
        let used = state.encoder.next_sequence() + 1 - state.tail;
        if state.stopped || used + state.promised + blocks > self.blocks {
            let waited = Duration::ZERO;
            return Err(Error::Busy {
                what: "space in the delta log",
                waited,
            });
        }
        state.promised += blocks;
        Ok(LogReservation {
            log: Arc::clone(self),
            blocks,
        })
    }

    /// Calls `waiter` once `ticket` is durable, or with an error when the log stops.
    pub(crate) fn when_durable(&self, ticket: u64, waiter: Waiter) {
        let mut state = self.state.lock();
        let answer = if state.durable_ticket >= ticket {
            Ok(())
        } else if state.stopped {
            Err(Error::Closed)
        } else {
            state.waiters.push((ticket, waiter));
            state.commit_wanted = true;
            self.work.notify_all();
            return;
        };
        drop(state);
        waiter(answer);
    }

    /// Like [`DeltaLog::when_durable`], but not before a commit has checked for other writers.
    pub(crate) fn when_synced(&self, ticket: u64, waiter: Waiter) {
        let mut state = self.state.lock();
        if state.stopped {
            drop(state);
            return waiter(Err(Error::Closed));
        }
        state.waiters.push((ticket, waiter));
        state.commit_wanted = true;
        self.work.notify_all();
    }

    /// Returns whether a waiter's ticket is already durable.
    pub(crate) fn has_ready(&self) -> bool {
        let state = self.state.lock();
        let durable = state.durable_ticket;
        state.waiters.iter().any(|(wanted, _)| *wanted <= durable)
    }

    /// Takes the waiters whose tickets are durable.
    #[must_use]
    pub(crate) fn take_ready(&self) -> Vec<Waiter> {
        let mut state = self.state.lock();
        take_ready(&mut state)
    }

    /// Records that a new base is durable: replay starts there, and the ring keeps `retained`.
    pub(crate) fn retain(&self, retained: Retained) {
        let mut state = self.state.lock();
        state.tail = retained.tail;
        state.newest_base = retained.newest;
        state.due = due_after(retained.base_blocks, self.blocks);
        state.checkpoint_wanted = false;
        state.checkpoint_urgent = false;
        self.moved.notify_all();
    }

    /// Stops the log and fails all waiters. Nothing is queued or committed afterwards.
    pub(crate) fn stop(&self, why: impl Fn() -> Error) {
        let (waiters, refused) = {
            let mut state = self.state.lock();
            state.stopped = true;
            self.moved.notify_all();
            self.work.notify_all();
            let waiters = std::mem::take(&mut state.waiters);
            (waiters, std::mem::take(&mut state.refused))
        };
        // The lock is released: waiters may call the store.
        for (_, waiter) in waiters {
            waiter(Err(why()));
        }
        for (waiter, no_space) in refused {
            waiter(Err(no_space));
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Byte offsets of a block on the device, one per ring.
    pub(crate) fn block_offsets(&self, sequence: u64) -> [u64; 2] {
        self.rings
            .each_ref()
            .map(|ring| log_block_offset(ring, sequence))
    }

    /// Number of blocks that a restart would replay: from the newest base to the end.
    pub(crate) fn replay_blocks(&self) -> u64 {
        let state = self.state.lock();
        state.encoder.next_sequence() - state.newest_base
    }

    /// Number of blocks to replay at which the next checkpoint is due.
    pub(crate) fn checkpoint_blocks(&self) -> u64 {
        self.state.lock().due
    }

    /// Number of blocks to replay, if a checkpoint is overdue: one that began when it was due would not rest any more.
    pub(crate) fn overdue_blocks(&self) -> Option<u64> {
        let state = self.state.lock();
        let blocks = state.encoder.next_sequence() - state.newest_base;
        (blocks >= state.due + self.blocks / 8).then_some(blocks)
    }

    pub(crate) fn ring_blocks(&self) -> u64 {
        self.blocks
    }

    /// Waits for the commit task: until a commit is requested, a scheduled one is due, or
    /// `interval` has passed since the oldest record that is not durable. Uses no CPU while there
    /// is nothing to do.
    pub(crate) fn wait_commit(&self, interval: Duration, now: impl Fn() -> Duration) -> Task {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return Task::Stop;
            }
            if state.commit_wanted {
                return Task::Commit;
            }
            let dirty = state
                .dirty_since
                .map(|since| since.saturating_add(interval));
            let retry = state.no_space.as_ref().map(|no_space| no_space.retry_at);
            // While space is lacking, only the retry is due: an earlier commit would fail, too.
            let due = retry.or(dirty).or(state.look_again);
            match due.map(|due| due.saturating_sub(now())) {
                Some(left) if left.is_zero() => return Task::Commit,
                Some(left) => drop(self.work.wait_for(&mut state, left)),
                None => self.work.wait(&mut state),
            }
        }
    }

    /// Waits for `time` before a checkpoint that found no space is retried. Ends early when the log
    /// stops.
    pub(crate) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        while !state.stopped && !self.work.wait_until(&mut state, until).timed_out() {}
    }

    /// Waits for the checkpoint task.
    pub(crate) fn wait_checkpoint(&self) -> Task {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return Task::Stop;
            }
            if state.checkpoint_wanted {
                return Task::Checkpoint;
            }
            self.work.wait(&mut state);
        }
    }

    /// Makes the checkpoint that is being written skip its rests.
    pub(crate) fn hurry_checkpoint(&self) {
        self.state.lock().checkpoint_urgent = true;
        self.work.notify_all();
    }

    /// Rests in the middle of a checkpoint. The rest shrinks as the log grows after the checkpoint
    /// was due, to zero once it has grown by half as much again. Returns false, immediately, if the
    /// checkpoint must hurry, also because a caller waits for it.
    pub(crate) fn rest_checkpoint(&self, time: Duration) -> bool {
        let start = Instant::now();
        let mut state = self.state.lock();
        loop {
            let grown = state.encoder.next_sequence() - state.newest_base;
            let left = (state.due + self.blocks / 8).saturating_sub(grown);
            if state.stopped || state.checkpoint_urgent || left == 0 {
                return false;
            }
            // `left` falls from an eighth of the ring, when a checkpoint is due, to zero.
            let part = left as f64 / (self.blocks / 8).max(1) as f64;
            let until = start + time.mul_f64(part.min(1.0));
            if self.work.wait_until(&mut state, until).timed_out() {
                return true;
            }
        }
    }

    /// Rests between discards. Returns false, immediately, if they must hurry.
    pub(crate) fn rest_discards(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state.lock();
        loop {
            if state.stopped || state.discards_urgent {
                return false;
            }
            if self.work.wait_until(&mut state, until).timed_out() {
                return true;
            }
        }
    }

    /// Makes discards skip their rests.
    pub(crate) fn hurry_discards(&self) {
        self.state.lock().discards_urgent = true;
        self.work.notify_all();
    }

    /// Waits for the discard task and takes its request.
    pub(crate) fn wait_discard(&self) -> Task {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return Task::Stop;
            }
            if std::mem::take(&mut state.discard_wanted) {
                return Task::Discard;
            }
            self.work.wait(&mut state);
        }
    }

    /// Passes its state to `show`, except sizes and wait times.
    pub(crate) fn each_part(&self, show: &mut dyn FnMut(&str, std::fmt::Arguments<'_>)) {
        let DeltaLog {
            rings: _,
            blocks: _,
            state,
            moved: _,
            work: _,
            longest_wait: _,
        } = self;
        let LogState {
            encoder,
            tail,
            newest_base,
            due,
            promised,
            line,
            next_place: _,
            ticket,
            durable_ticket,
            durable_sequence,
            dirty_since,
            look_again,
            commit_wanted,
            checkpoint_wanted,
            checkpoint_urgent,
            discard_wanted,
            discards_urgent,
            stopped,
            waiters,
            unwritten,
            no_space,
            refused,
        } = &*state.lock();
        show("ticket", format_args!("{ticket}"));
        show(
            "log",
            format_args!(
                "{:?}",
                (
                    (
                        encoder,
                        tail,
                        (newest_base, due),
                        promised,
                        durable_ticket,
                        durable_sequence
                    ),
                    (dirty_since, look_again, commit_wanted, checkpoint_wanted),
                    (
                        checkpoint_urgent,
                        discard_wanted,
                        discards_urgent,
                        stopped,
                        (waiters.len(), line.len(), refused.len())
                    ),
                    (
                        unwritten.as_ref().map(|pending| pending.ticket),
                        no_space.as_ref().map(|no_space| no_space.retry_at),
                    ),
                )
            ),
        );
    }

    pub(crate) fn wants_checkpoint(&self) -> bool {
        self.state.lock().checkpoint_wanted
    }
}

impl LogState {
    fn check_space(&self) -> Result<(), Error> {
        let no_space = self.no_space.as_ref();
        no_space.map_or(Ok(()), |no_space| Err(no_space.why.clone()))
    }
}

fn take_ready(state: &mut LogState) -> Vec<Waiter> {
    let durable = state.durable_ticket;
    let ready = state
        .waiters
        .extract_if(.., |(wanted, _)| *wanted <= durable);
    ready.map(|(_, waiter)| waiter).collect()
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
