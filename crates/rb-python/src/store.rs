//! The class `Store`.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyAny, PyBytes, PyList};
use rb_core::{
    Expected, Hints, Payload, Pin, Put, PutMode, PutOptions, RemoveMode, RemoveOutcome,
    StoreOptions,
};

use crate::batch::{Batch, Ended, Wanted};
use crate::bell::Bell;
use crate::codes;
use crate::errors::{self, of_open, of_store};
use crate::gone::Observer;
use crate::listing::{self, Cursor, Listed};
use crate::memory::{Access, Memory, Region};
use crate::options;
use crate::reports;
use crate::tasks::{Task, Tasks, Work};

/// The words for a batch that is refused.
const LATE: &str =
    "the device has not answered an earlier batch in time: the store takes no batch until it does";

/// The stores that are open, and the processes that opened them: a fork has copies.
static OPEN: Mutex<Vec<(u32, Weak<rb_core::Store>)>> = Mutex::new(Vec::new());

/// Refuses to open a store in a fork of a process that has one open. Locks know the threads of that process that wait for
/// them. A fork has none of these, and their memory is used for its own threads.
fn check_fork() -> PyResult<()> {
    let mut open = OPEN.lock();
    open.retain(|(_, store)| store.strong_count() > 0);
    match open
        .iter()
        .find(|(process, _)| *process != std::process::id())
    {
        None => Ok(()),
        Some((process, _)) => Err(errors::Forked::new_err(format!(
            "this is a fork of process {process}, which had a store open: start processes with spawn, not with fork"
        ))),
    }
}

/// Closes all stores, when the interpreter exits.
#[pyfunction]
pub(crate) fn close_all(py: Python<'_>) {
    let open = std::mem::take(&mut *OPEN.lock());
    // What was synced is safe, if a device fails now or this process is a fork.
    py.detach(|| {
        open.iter()
            .filter_map(|(_, store)| store.upgrade())
            .for_each(|store| _ = store.close());
    });
}

/// An open store.
#[pyclass(frozen, weakref, module = "raw_block")]
pub(crate) struct Store {
    store: Arc<rb_core::Store>,
    path: PathBuf,
    process: u32,
    puts: Arc<Tasks>,
    gets: Arc<Tasks>,
    observer: Arc<Observer>,
    locks: Mutex<HashMap<Box<[u8]>, VecDeque<Pin>>>,
    /// The adopted memory. Values are looked for in regions that are still there, also when Python has dropped its
    /// `Memory`.
    regions: Mutex<Vec<Arc<Region>>>,
    closed: AtomicBool,
}

/// The end of a batch.
#[pyclass(frozen, get_all, module = "raw_block")]
pub(crate) struct Done {
    id: u64,
    codes: Vec<i32>,
    lengths: Vec<usize>,
    error: Option<String>,
}

impl Done {
    fn of(id: u64, ended: Ended) -> Done {
        Done {
            id,
            codes: ended.codes.into_iter().map(i32::from).collect(),
            lengths: ended.lengths,
            error: ended.error,
        }
    }
}

/// The keyword arguments of a put.
struct PutArguments {
    metadata: Option<Vec<PyBackedBytes>>,
    expires: Option<std::time::SystemTime>,
    options: PutOptions,
}

impl PutArguments {
    fn new(
        keys: usize,
        metadata: Option<Vec<PyBackedBytes>>,
        replace: bool,
        expires: Option<f64>,
        (chain_ended, priority): (bool, u8),
    ) -> PyResult<PutArguments> {
        if let Some(metadata) = &metadata
            && metadata.len() != keys
        {
            return Err(PyValueError::new_err(format!(
                "{keys} keys and {} metadata",
                metadata.len()
            )));
        }
        let hints = Hints::new().priority(priority);
        let options = PutOptions {
            mode: if replace {
                PutMode::Replace
            } else {
                PutMode::KeepExisting
            },
            hints: if chain_ended {
                hints.chain_ended()
            } else {
                hints
            },
            ..PutOptions::default()
        };
        Ok(PutArguments {
            metadata,
            expires: options::expiry(expires)?,
            options,
        })
    }

    /// The puts of a batch; its loans go into them.
    fn puts<'a>(&'a self, batch: &'a mut Batch) -> Vec<Put<'a>> {
        let loans = std::mem::take(&mut batch.loans);
        let puts = batch.at.iter().zip(loans).map(|(at, loan)| Put {
            key: &batch.keys[*at],
            payload: Payload::Loan(loan),
            metadata: self.metadata.as_ref().map_or(&[], |all| &all[*at]),
            expires: self.expires,
        });
        puts.collect()
    }
}

impl Store {
    /// Refuses calls in a forked child and after a close.
    fn check(&self) -> PyResult<()> {
        self.check_process()?;
        match self.closed.load(Ordering::Acquire) {
            true => Err(errors::Closed::new_err("the store is closed")),
            false => Ok(()),
        }
    }

    fn check_process(&self) -> PyResult<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(errors::Forked::new_err(format!(
            "the store was opened by process {}, of which this is a fork: open it in this process",
            self.process
        )))
    }

    fn add(
        &self,
        kind: &Arc<Tasks>,
        mut batch: Batch,
        work: impl FnOnce(&mut Batch) -> Work,
    ) -> u64 {
        let since = Instant::now();
        let work = if self.is_late() {
            Work::Ended(batch.refuse(codes::TIMED_OUT, LATE))
        } else {
            work(&mut batch)
        };
        kind.add(Task {
            at: batch.at,
            borrowed: batch.borrowed,
            work,
            since,
        })
    }

    /// Returns true if the device holds memory of a batch whose time is over.
    fn is_late(&self) -> bool {
        self.puts.is_late() || self.gets.is_late()
    }

    /// Waits, without the interpreter, until the device holds none of the memory of a batch. Meanwhile the batch counts as
    /// late.
    fn settle(py: Python<'_>, kind: &Tasks, batch: &Batch, ended: &Ended) {
        let (sender, freed) = mpsc::sync_channel(1);
        let is_late = batch.borrowed.when_free(&batch.at, ended, move || {
            _ = sender.try_send(());
        });
        if is_late && freed.try_recv() == Err(TryRecvError::Empty) {
            kind.begin_late();
            // An error means that the last request has gone without an answer, and with it the sender.
            _ = py.detach(move || freed.recv());
            kind.end_late();
        }
    }
}

#[pymethods]
impl Store {
    #[new]
    #[pyo3(signature = (path, *, engine="auto", memory=None, read_only=false, start_empty=false, force=false,
        queue_depth=256, queues=8, buffer_bytes=None, durability="interval", sync_interval_ms=50,
        validate="background", scrub_bytes_per_second=None, discard_freed=false, on_lost_metadata="empty",
        io_deadline_ms=30_000, direct_min=None, slot_bytes=None, label=None, uuid=None, shards=None,
        policy="lru", write_budget_per_day=None, placement_metadata=None, placement_lifetimes=None, events=false, monitor=true))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    #[expect(
        clippy::fn_params_excessive_bools,
        reason = "keyword arguments of Python"
    )]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        engine: &str,
        memory: Option<Vec<Py<Memory>>>,
        read_only: bool,
        start_empty: bool,
        force: bool,
        queue_depth: u32,
        queues: usize,
        buffer_bytes: Option<usize>,
        durability: &str,
        sync_interval_ms: u64,
        validate: &str,
        scrub_bytes_per_second: Option<u64>,
        discard_freed: bool,
        on_lost_metadata: &str,
        io_deadline_ms: u64,
        direct_min: Option<usize>,
        slot_bytes: Option<Vec<u64>>,
        label: Option<Vec<u8>>,
        uuid: Option<&str>,
        shards: Option<u32>,
        policy: &str,
        write_budget_per_day: Option<u64>,
        placement_metadata: Option<u16>,
        placement_lifetimes: Option<Vec<u16>>,
        events: bool,
        monitor: bool,
    ) -> PyResult<Store> {
        check_fork()?;
        let observer = Arc::new(Observer::new(Bell::new()?));
        let memory = memory.unwrap_or_default();
        let regions: Vec<_> = memory
            .iter()
            .map(|memory| Arc::clone(&memory.get().region))
            .collect();
        let defaults = StoreOptions::default();
        let options = StoreOptions {
            engine: options::engine(engine)?,
            policy: options::policy(policy)?,
            write_budget_per_day: options::write_budget(write_budget_per_day)?,
            read_only,
            start_empty,
            force,
            queue_depth,
            queues_max: queues,
            buffer_bytes,
            arenas: regions.iter().map(|region| region.arena.clone()).collect(),
            direct_min: direct_min.unwrap_or(defaults.direct_min),
            shards,
            durability: options::durability(durability)?,
            sync_interval: options::milliseconds("sync_interval_ms", sync_interval_ms)?,
            validate: options::validate(validate)?,
            scrub: options::scrub(scrub_bytes_per_second)?,
            discard_freed,
            placement: options::placement(placement_metadata, placement_lifetimes)?,
            on_lost_metadata: options::on_lost_metadata(on_lost_metadata)?,
            expected: Expected {
                slot_bytes: slot_bytes.unwrap_or_default(),
                label,
                uuid: options::uuid(uuid)?,
                ..Expected::default()
            },
            io_deadline: options::milliseconds("io_deadline_ms", io_deadline_ms)?,
            monitor,
            events: events.then(|| observer.clone() as Arc<dyn rb_core::Events>),
            ..defaults
        };
        let store = py.detach(|| rb_core::Store::open(&path, options));
        let store = Arc::new(store.map_err(|error| of_open(&error))?);
        let opened = (std::process::id(), Arc::downgrade(&store));
        OPEN.lock().push(opened);
        Ok(Store {
            store,
            path,
            process: std::process::id(),
            puts: Tasks::new(Bell::new()?),
            gets: Tasks::new(Bell::new()?),
            observer,
            locks: Mutex::default(),
            regions: Mutex::new(regions),
            closed: AtomicBool::new(false),
        })
    }

    /// Starts a batch of puts and returns its id.
    #[pyo3(signature = (keys, spans, *, metadata=None, replace=false, expires=None, chain_ended=false, priority=0))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn submit_put(
        &self,
        py: Python<'_>,
        keys: Vec<PyBackedBytes>,
        spans: &Bound<'_, PyAny>,
        metadata: Option<Vec<PyBackedBytes>>,
        replace: bool,
        expires: Option<f64>,
        chain_ended: bool,
        priority: u8,
    ) -> PyResult<u64> {
        self.check()?;
        let hints = (chain_ended, priority);
        let arguments = PutArguments::new(keys.len(), metadata, replace, expires, hints)?;
        let batch = Batch::new(keys, spans, Access::Source)?;
        Ok(self.add(&self.puts, batch, |batch| {
            let ended = batch.ended.take();
            let puts = arguments.puts(batch);
            // Short values are copied in the call.
            let putting = py.detach(|| self.store.put_many_async(puts, arguments.options));
            Work::Put(putting, ended)
        }))
    }

    /// Starts a batch of gets and returns its id.
    #[pyo3(signature = (keys, spans, *, expect=None, exact=true))]
    fn submit_get(
        &self,
        py: Python<'_>,
        keys: Vec<PyBackedBytes>,
        spans: &Bound<'_, PyAny>,
        expect: Option<Vec<Option<PyBackedBytes>>>,
        exact: bool,
    ) -> PyResult<u64> {
        self.check()?;
        let wanted = Wanted::new(keys.len(), expect, exact)?;
        let batch = Batch::new(keys, spans, Access::Target)?;
        Ok(self.add(&self.gets, batch, |batch| {
            let (ended, loans) = (batch.ended.take(), std::mem::take(&mut batch.loans));
            let keys = batch.lent_keys();
            let getting = py.detach(|| self.store.get_many_at_async(&keys, loans));
            Work::Get(getting, ended, wanted)
        }))
    }

    /// Returns the batches that have ended. Works after a close, too.
    fn drain(&self, kind: &str) -> PyResult<Vec<Done>> {
        self.check_process()?;
        let tasks = match kind {
            "put" => &self.puts,
            "get" => &self.gets,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "kind={kind:?}: one of put, get is expected"
                )));
            }
        };
        let ended = tasks.drain().into_iter();
        Ok(ended
            .map(|(id, ended, _borrowed)| Done::of(id, ended))
            .collect())
    }

    /// Puts a batch in the calling thread.
    #[pyo3(signature = (keys, spans, *, metadata=None, replace=false, expires=None, chain_ended=false, priority=0))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn put_many(
        &self,
        py: Python<'_>,
        keys: Vec<PyBackedBytes>,
        spans: &Bound<'_, PyAny>,
        metadata: Option<Vec<PyBackedBytes>>,
        replace: bool,
        expires: Option<f64>,
        chain_ended: bool,
        priority: u8,
    ) -> PyResult<Done> {
        self.check()?;
        let hints = (chain_ended, priority);
        let arguments = PutArguments::new(keys.len(), metadata, replace, expires, hints)?;
        let mut batch = Batch::new(keys, spans, Access::Source)?;
        if self.is_late() {
            return Ok(Done::of(0, batch.refuse(codes::TIMED_OUT, LATE)));
        }
        let ended = batch.ended.take();
        let puts = arguments.puts(&mut batch);
        let answers = py.detach(|| self.store.put_many(puts, arguments.options));
        let ended = ended.of_puts(&batch.at, &batch.borrowed.spans, answers);
        Store::settle(py, &self.puts, &batch, &ended);
        Ok(Done::of(0, ended))
    }

    /// Reads a batch in the calling thread.
    #[pyo3(signature = (keys, spans, *, expect=None, exact=true))]
    fn get_many(
        &self,
        py: Python<'_>,
        keys: Vec<PyBackedBytes>,
        spans: &Bound<'_, PyAny>,
        expect: Option<Vec<Option<PyBackedBytes>>>,
        exact: bool,
    ) -> PyResult<Done> {
        self.check()?;
        let wanted = Wanted::new(keys.len(), expect, exact)?;
        let mut batch = Batch::new(keys, spans, Access::Target)?;
        if self.is_late() {
            return Ok(Done::of(0, batch.refuse(codes::TIMED_OUT, LATE)));
        }
        let (ended, loans) = (batch.ended.take(), std::mem::take(&mut batch.loans));
        let keys = batch.lent_keys();
        let answers = py.detach(|| self.store.get_many_at(&keys, loans));
        let ended = ended.of_gets(&batch.at, &batch.borrowed.spans, answers, &wanted);
        Store::settle(py, &self.gets, &batch, &ended);
        Ok(Done::of(0, ended))
    }

    /// Puts one value and returns whether it was written.
    #[pyo3(signature = (key, value, *, metadata=None, replace=true, expires=None))]
    fn put(
        &self,
        py: Python<'_>,
        key: PyBackedBytes,
        value: Bound<'_, PyAny>,
        metadata: Option<PyBackedBytes>,
        replace: bool,
        expires: Option<f64>,
    ) -> PyResult<bool> {
        let spans = PyList::new(py, [value])?;
        let metadata = metadata.map(|metadata| vec![metadata]);
        let done = self.put_many(py, vec![key], &spans, metadata, replace, expires, false, 0)?;
        match done.error {
            None => Ok(done.codes == [i32::from(codes::DONE)]),
            Some(words) if done.codes == [i32::from(codes::POISONED)] => {
                Err(errors::Poisoned::new_err(words))
            }
            Some(words) => Err(errors::Error::new_err(words)),
        }
    }

    /// Returns the value of a key.
    fn get<'py>(
        &self,
        py: Python<'py>,
        key: PyBackedBytes,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.check()?;
        let found = py
            .detach(|| self.store.get(&key))
            .map_err(|error| of_store(&error))?;
        Ok(found.map(|value| PyBytes::new(py, &value)))
    }

    fn contains(&self, py: Python<'_>, keys: Vec<PyBackedBytes>) -> PyResult<Vec<bool>> {
        self.check()?;
        Ok(lookup(py, &keys, |keys| self.store.contains_many(keys)))
    }

    fn longest_prefix(&self, py: Python<'_>, keys: Vec<PyBackedBytes>) -> PyResult<usize> {
        self.check()?;
        Ok(lookup(py, &keys, |keys| self.store.longest_prefix(keys)))
    }

    fn touch(&self, py: Python<'_>, keys: Vec<PyBackedBytes>) -> PyResult<Vec<bool>> {
        self.check()?;
        Ok(lookup(py, &keys, |keys| self.store.touch_many(keys)))
    }

    /// Locks values against eviction and returns their lengths, -1 for a miss.
    fn lock(&self, py: Python<'_>, keys: Vec<PyBackedBytes>) -> PyResult<Vec<i64>> {
        self.check()?;
        let pins = lookup(py, &keys, |keys| self.store.lookup_and_pin(keys));
        let mut locks = self.locks.lock();
        let lens = keys.iter().zip(pins).map(|(key, pin)| match pin {
            None => -1,
            Some(pin) => {
                let len = pin.len() as i64;
                match locks.get_mut(&**key) {
                    Some(line) => line.push_back(pin),
                    None => _ = locks.insert((**key).into(), VecDeque::from([pin])),
                }
                len
            }
        });
        let lens = lens.collect();
        // A close that was faster has cleared them.
        if self.closed() {
            locks.clear();
        }
        Ok(lens)
    }

    /// Ends one lock of each key, the oldest, and returns how many there were. Works after a close, which ends all.
    fn unlock(&self, keys: Vec<PyBackedBytes>) -> PyResult<usize> {
        self.check_process()?;
        let mut locks = self.locks.lock();
        let mut pins = Vec::new();
        for key in &keys {
            let Some(line) = locks.get_mut(&**key) else {
                continue;
            };
            pins.extend(line.pop_front());
            if line.is_empty() {
                locks.remove(&**key);
            }
        }
        drop(locks);
        let count = pins.len();
        self.store.unpin(pins);
        Ok(count)
    }

    /// Returns the length of each value, -1 where there is none. Not a lookup: the eviction policy does not see it.
    fn lengths(&self, py: Python<'_>, keys: Vec<PyBackedBytes>) -> PyResult<Vec<i64>> {
        self.check()?;
        let lengths = lookup(py, &keys, |keys| self.store.lengths_of_many(keys));
        let length = |length: Option<usize>| length.map_or(-1, |length| length as i64);
        Ok(lengths.into_iter().map(length).collect())
    }

    /// Removes keys and returns the length of each value, -1 where there was none, -2 where it is locked, -3 where the
    /// remove failed.
    #[pyo3(signature = (keys, *, unless_locked=true))]
    fn remove(
        &self,
        py: Python<'_>,
        keys: Vec<PyBackedBytes>,
        unless_locked: bool,
    ) -> PyResult<Vec<i64>> {
        self.check()?;
        let mode = if unless_locked {
            RemoveMode::UnlessLeased
        } else {
            RemoveMode::Always
        };
        let slices: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
        let removed = py.detach(|| self.store.remove_many_with(&slices, mode));
        let lens = removed.into_iter().map(|outcome| match outcome {
            Ok(RemoveOutcome::Removed { len }) => i64::from(len),
            Ok(RemoveOutcome::Leased) => -2,
            Ok(_) => -1,
            Err(_) => -3,
        });
        Ok(lens.collect())
    }

    /// Returns a page of the entries, and where the next one begins.
    #[pyo3(signature = (cursor=None, limit=500, *, order="any"))]
    fn list(
        &self,
        py: Python<'_>,
        cursor: Option<&Cursor>,
        limit: usize,
        order: &str,
    ) -> PyResult<(Vec<Listed>, Option<Cursor>)> {
        self.check()?;
        let start = listing::start(cursor, order)?;
        let (page, next) = py.detach(|| self.store.list(start, limit));
        let listed = page
            .iter()
            .map(|entry| listing::listed(py, entry))
            .collect();
        Ok((listed, next.map(Cursor)))
    }

    /// Returns the keys and the lengths of a page of the entries, and where the next one begins.
    #[pyo3(signature = (cursor=None, limit=500, *, order="any"))]
    fn keys<'py>(
        &self,
        py: Python<'py>,
        cursor: Option<&Cursor>,
        limit: usize,
        order: &str,
    ) -> PyResult<(Bound<'py, PyList>, Bound<'py, PyList>, Option<Cursor>)> {
        self.check()?;
        let start = listing::start(cursor, order)?;
        let (page, next) = py.detach(|| self.store.list(start, limit));
        let (keys, lengths) = listing::columns(py, &page)?;
        Ok((keys, lengths, next.map(Cursor)))
    }

    /// Returns what disappeared without a remove since the last call. Works after a close, too.
    fn poll_events(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, Py<PyBytes>, u32)>> {
        self.check_process()?;
        let gone = self.observer.take().into_iter();
        Ok(gone
            .map(|(kind, key, len)| (kind, PyBytes::new(py, &key).unbind(), len))
            .collect())
    }

    /// Bytes of slots that a value takes, without their headers.
    fn charge(&self, length: u64) -> PyResult<u64> {
        let geometry = self.store.geometry();
        match geometry.slots_for(length) {
            Some((class, slots)) => Ok(slots as u64 * geometry.class_capacity(class)),
            None => Err(PyValueError::new_err(format!(
                "a value of {length} bytes: values of this store have 1 to {} bytes",
                geometry.value_len_max()
            ))),
        }
    }

    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.check()?;
        py.detach(|| self.store.sync())
            .map_err(|error| of_store(&error))
    }

    fn checkpoint(&self, py: Python<'_>) -> PyResult<()> {
        self.check()?;
        py.detach(|| self.store.checkpoint())
            .map_err(|error| of_store(&error))
    }

    fn adopt(&self, memory: &Memory) -> PyResult<()> {
        self.check()?;
        let mut regions = self.regions.lock();
        let is_new = !regions
            .iter()
            .any(|region| Arc::ptr_eq(region, &memory.region));
        if is_new {
            regions.push(Arc::clone(&memory.region));
            self.store.adopt(memory.region.arena.clone());
        }
        Ok(())
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.check_process()?;
        let stats = py.detach(|| self.store.stats());
        reports::to_python(py, &stats)
    }

    fn recovery(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        reports::to_python(py, &reports::recovery(self.store.recovery()))
    }

    fn geometry(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.check_process()?;
        reports::to_python(py, &reports::geometry(&self.store))
    }

    fn health(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.check_process()?;
        let closed = self.closed.load(Ordering::Acquire);
        let health = py.detach(|| reports::health(&self.store, closed, [&self.puts, &self.gets]));
        reports::to_python(py, &health)
    }

    #[pyo3(signature = (label=None))]
    fn metrics(&self, py: Python<'_>, label: Option<&str>) -> PyResult<String> {
        self.check_process()?;
        py.detach(|| reports::metrics(&self.store, label))
    }

    /// Closes the store and releases the device. Every later call returns the result of the first.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.check_process()?;
        self.closed.store(true, Ordering::Release);
        self.locks.lock().clear();
        let closed = py.detach(|| self.store.close());
        if closed.is_ok() {
            let this = Arc::as_ptr(&self.store);
            OPEN.lock().retain(|(_, store)| store.as_ptr() != this);
        }
        closed.map_err(|error| of_store(&error))
    }

    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    #[getter]
    fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    #[getter]
    fn uuid(&self) -> String {
        self.store.superblock().identity.uuid.to_string()
    }

    #[getter(put_fd)]
    fn put_fd(&self) -> i32 {
        self.puts.bell.fd()
    }

    #[getter(get_fd)]
    fn get_fd(&self) -> i32 {
        self.gets.bell.fd()
    }

    #[getter(event_fd)]
    fn event_fd(&self) -> i32 {
        self.observer.bell.fd()
    }

    fn __enter__(this: Py<Store>) -> Py<Store> {
        this
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<raw_block.Store {}>", self.path.display())
    }
}

/// Runs a lookup; without the interpreter if it is long.
fn lookup<T: Send>(
    py: Python<'_>,
    keys: &[PyBackedBytes],
    run: impl FnOnce(&[&[u8]]) -> T + Send,
) -> T {
    let slices: Vec<&[u8]> = keys.iter().map(|key| &**key).collect();
    match slices.len() > 64 {
        true => py.detach(|| run(&slices)),
        false => run(&slices),
    }
}
