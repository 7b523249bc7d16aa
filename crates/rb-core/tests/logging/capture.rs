//! A subscriber that keeps all it gets, and calls the store from everywhere.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard};

use rb_core::Store;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::fixture::key;

/// An event, or a span that has ended or not.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) is_span: bool,
    /// Name of the span, message of the event.
    pub(crate) name: String,
    pub(crate) level: String,
    pub(crate) target: String,
    /// The names of its fields, also of those without a value.
    pub(crate) fields: BTreeSet<String>,
    values: BTreeMap<String, String>,
    /// The name of the span in which it was made.
    pub(crate) inside: Option<String>,
    id: u64,
}

impl Seen {
    pub(crate) fn value(&self, field: &str) -> Option<&str> {
        self.values.get(field).map(String::as_str)
    }
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.name = text,
            name => drop(self.values.insert(name.to_owned(), text)),
        }
    }
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
/// The store that the subscriber calls.
static STORE: Mutex<Option<Store>> = Mutex::new(None);
/// True if the subscriber panics.
pub(crate) static PANICS: AtomicBool = AtomicBool::new(false);

thread_local! {
    static ENTERED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static CALLS: Cell<bool> = const { Cell::new(false) };
}

/// Makes the test the only one that runs, and the capture the subscriber of the process.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static SUBSCRIBER: LazyLock<()> = LazyLock::new(|| {
        tracing::subscriber::set_global_default(Capture).unwrap();
    });
    let alone = ALONE.lock();
    LazyLock::force(&SUBSCRIBER);
    take();
    alone.unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Takes what was captured.
pub(crate) fn take() -> Vec<Seen> {
    std::mem::take(&mut SEEN.lock().unwrap())
}

/// Lets the subscriber call this store, or none.
pub(crate) fn call(store: Option<&Store>) {
    let former = std::mem::replace(&mut *STORE.lock().unwrap(), store.cloned());
    drop(former);
}

struct Capture;

impl Capture {
    /// Calls the store as a subscriber may: an operation that waits for every shard, the log and the device.
    fn look(&self) {
        assert!(!PANICS.load(Ordering::Relaxed), "a subscriber may panic");
        if CALLS.replace(true) {
            return;
        }
        let store = STORE.lock().unwrap().clone();
        if let Some(store) = store {
            let keys: Vec<_> = (0..16).map(key).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let found = store.contains_many(&keys);
            assert!(store.stats().index.classes.len() <= 1 && found.len() <= 16);
        }
        CALLS.set(false);
    }

    fn seen(metadata: &Metadata<'_>, id: u64) -> Seen {
        let fields = metadata
            .fields()
            .iter()
            .map(|field| field.name().to_owned());
        Seen {
            is_span: metadata.is_span(),
            name: metadata.name().to_owned(),
            level: metadata.level().to_string(),
            target: metadata.target().to_owned(),
            fields: fields.filter(|field| field != "message").collect(),
            values: BTreeMap::new(),
            inside: ENTERED.with_borrow(|entered| entered.last().cloned()),
            id,
        }
    }
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        !CALLS.get()
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut seen = Capture::seen(span.metadata(), id);
        span.record(&mut seen);
        SEEN.lock().unwrap().push(seen);
        self.look();
        Id::from_u64(id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        let mut all = SEEN.lock().unwrap();
        let span = all
            .iter_mut()
            .find(|seen| seen.is_span && seen.id == id.into_u64());
        if let Some(span) = span {
            values.record(span);
        }
        drop(all);
        self.look();
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut seen = Capture::seen(event.metadata(), 0);
        event.record(&mut seen);
        SEEN.lock().unwrap().push(seen);
        self.look();
    }

    fn enter(&self, id: &Id) {
        let all = SEEN.lock().unwrap();
        let name = all.iter().find(|seen| seen.id == id.into_u64());
        let name = name.map_or_else(String::new, |seen| seen.name.clone());
        drop(all);
        ENTERED.with_borrow_mut(|entered| entered.push(name));
    }

    fn exit(&self, _: &Id) {
        ENTERED.with_borrow_mut(|entered| drop(entered.pop()));
    }

    fn try_close(&self, _: Id) -> bool {
        self.look();
        true
    }
}

/// Returns whether this thread is in no span: so it must be where the store calls the host.
pub(crate) fn is_outside() -> bool {
    ENTERED.with_borrow(Vec::is_empty)
}
