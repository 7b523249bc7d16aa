//! What the tests share: small stores, deterministic values, an observer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rb_core::{
    ClassRequest, EngineKind, Event, Events, FormatOptions, Share, Store, StoreOptions, format,
};
use tempfile::TempDir;

pub(crate) const ENGINES: [EngineKind; 2] = [EngineKind::Posix, EngineKind::IoUring];
pub(crate) const KIB: usize = 1024;

/// A file store in a folder that goes when this is dropped.
pub(crate) struct Bed {
    dir: TempDir,
    pub(crate) engine: EngineKind,
}

impl Bed {
    /// `slots` slots of `slot_bytes` each.
    pub(crate) fn new(slot_bytes: u64, slots: u64) -> Bed {
        Bed::with(
            vec![ClassRequest {
                slot_bytes,
                share: Share::Slots(slots),
            }],
            |_| {},
        )
    }

    pub(crate) fn with(classes: Vec<ClassRequest>, change: impl FnOnce(&mut FormatOptions)) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let mut options = FormatOptions::new(dir.path().join("store"), classes);
        options.sparse = true;
        change(&mut options);
        format(&options).unwrap();
        Bed {
            dir,
            engine: EngineKind::Posix,
        }
    }

    pub(crate) fn on(mut self, engine: EngineKind) -> Bed {
        self.engine = engine;
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions {
            engine: self.engine,
            buffer_bytes: Some(16 << 20),
            queue_depth: 64,
            ..StoreOptions::default()
        }
    }

    pub(crate) fn open(&self) -> Store {
        self.open_with(|_| {})
    }

    pub(crate) fn open_with(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        let mut options = self.options();
        change(&mut options);
        Store::open(self.path(), options).unwrap()
    }

    /// What a crash leaves on the host: a copy of the file as it is now, opened anew.
    pub(crate) fn image(&self) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        copy_sparse(&self.path(), &dir.path().join("store"));
        Bed {
            dir,
            engine: self.engine,
        }
    }
}

fn copy_sparse(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp")
        .args(["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()])
        .status()
        .unwrap();
    assert!(done.success());
}

/// A value of `len` bytes that is a function of `seed`.
pub(crate) fn value(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rb_testkit::values::fill(seed, &mut bytes);
    bytes
}

pub(crate) fn key(n: u64) -> Vec<u8> {
    format!("key-{n}").into_bytes()
}

/// Remembers events as lines.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Vec<String>>);

impl Watch {
    pub(crate) fn new() -> Arc<Watch> {
        Arc::default()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.lines()
            .iter()
            .filter(|line| line.starts_with(start))
            .count()
    }
}

impl Events for Watch {
    fn event(&self, event: &Event<'_>) {
        let line = match event {
            Event::Evicted { key, .. } => format!("evicted {}", String::from_utf8_lossy(key)),
            Event::Dropped { key, reason, .. } => {
                format!("dropped {} {reason:?}", String::from_utf8_lossy(key))
            }
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}
