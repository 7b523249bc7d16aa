//! Creates a device and inspects it, bypassing its faults.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use rb_io::{Limits, OpKind, PlacementId};

use super::operation::{MemCounts, MemOp, Moment, Observer};
use super::pages::{PAGE, Pages};
use super::record::Recorded;
use super::state::{MemDevice, State};

impl MemDevice {
    /// Creates a zeroed device of `capacity_bytes`, with blocks of 512 bytes and transfers up to 1
    /// MiB.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Arc<Self> {
        Self::with_limits(
            capacity_bytes,
            Limits::simple(512, 1 << 20, "memory device"),
        )
    }

    /// Creates a zeroed device with the given limits. Parts that violate them fail with EINVAL.
    #[must_use]
    pub fn with_limits(capacity_bytes: u64, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            capacity_bytes,
            state: Mutex::new(State {
                covered: u64::MAX,
                ..State::default()
            }),
        })
    }

    /// Creates a device that durably holds `image`, with the limits of [`new`](Self::new).
    #[must_use]
    pub fn from_image(image: &[u8]) -> Arc<Self> {
        let mut pages = Pages::default();
        for (page, bytes) in (0..).zip(image.chunks(PAGE)) {
            // Zero pages take no memory.
            if bytes.iter().any(|byte| *byte != 0) {
                pages.write(page * PAGE as u64, bytes);
            }
        }
        Self::new(image.len() as u64).with_pages(pages)
    }

    /// Creates a device of the same size and limits that durably holds `pages`.
    pub(super) fn with_pages(&self, pages: Pages) -> Arc<Self> {
        let state = State {
            live: pages.clone(),
            durable: pages,
            covered: u64::MAX,
            ..State::default()
        };
        Arc::new(Self {
            limits: self.limits,
            capacity_bytes: self.capacity_bytes,
            state: Mutex::new(state),
        })
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Returns the limits that it enforces.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Records every write and flush from now on, for [`crash_points`](Self::crash_points).
    pub fn record(&self) {
        let mut state = self.state.lock();
        let pending = state.pending.iter().cloned().map(Recorded::Write);
        state.recording = Some((state.durable.clone(), pending.collect()));
    }

    /// Returns the number of steps recorded so far.
    #[must_use]
    pub fn recorded(&self) -> usize {
        let state = self.state.lock();
        state.recording.as_ref().map_or(0, |(_, steps)| steps.len())
    }

    /// Returns the recorded steps without the first `count`.
    pub(super) fn recorded_since(&self, count: usize) -> Vec<Recorded> {
        let state = self.state.lock();
        let steps = state.recording.as_ref().map_or(&[][..], |(_, steps)| steps);
        steps.get(count..).unwrap_or_default().to_vec()
    }

    /// Returns the current contents as seen by reads.
    #[must_use]
    pub fn live_image(&self) -> Vec<u8> {
        self.image(&self.state.lock().live)
    }

    /// Calls `observer` before and after the execution of each batch of requests, in the thread
    /// that sent it. It may use the device, and so act as another caller of a store in the middle
    /// of an operation.
    pub fn observe(&self, observer: impl Fn(Moment, &[MemOp]) + Send + Sync + 'static) {
        self.state.lock().observer = Some(Observer(Arc::new(observer)));
    }

    /// Returns the number of writes that failed and have yet to land.
    #[must_use]
    pub fn late_writes(&self) -> usize {
        self.state.lock().late.len()
    }

    /// Inverts every byte of `range`, in the cache and on the medium, to simulate rot. Unflushed
    /// writes there are restored by the next flush.
    pub fn corrupt(&self, range: Range<u64>) {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut state = self.state.lock();
        state.live.read(range.start, &mut bytes);
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        state.change(range.start, &bytes);
    }

    /// Overwrites bytes in the cache and on the medium, bypassing faults and counters.
    pub fn poke(&self, offset: u64, bytes: &[u8]) {
        self.state.lock().change(offset, bytes);
    }

    /// Reads the current bytes, bypassing faults and counters.
    pub fn peek(&self, offset: u64, bytes: &mut [u8]) {
        self.state.lock().live.read(offset, bytes);
    }

    /// Returns the number of held requests.
    #[must_use]
    pub fn held(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Returns the counters of executed operations.
    #[must_use]
    pub fn counts(&self) -> MemCounts {
        self.state.lock().counts
    }

    /// Returns the executed operations, in order.
    #[must_use]
    pub fn log(&self) -> Vec<MemOp> {
        self.state.lock().log.clone()
    }

    /// Returns the bytes written so far by placement id; writes without one are under `None`.
    #[must_use]
    pub fn bytes_by_placement(&self) -> BTreeMap<Option<PlacementId>, u64> {
        let mut bytes = BTreeMap::new();
        let state = self.state.lock();
        for op in state.log.iter().filter(|op| op.op == OpKind::Write) {
            *bytes.entry(op.placement).or_default() += u64::from(op.len);
        }
        bytes
    }

    pub(super) fn image(&self, pages: &Pages) -> Vec<u8> {
        let mut image = vec![0; self.capacity_bytes as usize];
        pages.read(0, &mut image);
        image
    }
}
