//! An engine on a device, and the stores that the tests create there.

use std::path::PathBuf;

use rb_core::{
    AuditOptions, ClassRequest, EngineKind, FormatOptions, Put, PutOptions, PutResult, Share,
    Store, StoreOptions, Validate, audit, format,
};

use crate::marked::{bytes_of, version_of};
use crate::tally::words;

pub(super) const KIB: usize = 1024;
pub(super) const MIB: usize = 1024 * KIB;

/// An engine on a device.
#[derive(Clone, Debug)]
pub struct Target {
    /// Engine under test.
    pub engine: EngineKind,
    /// The device's node.
    pub path: PathBuf,
}

/// A value that was put: key, version, and length in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: u64,
    pub(super) version: u64,
    pub(super) len: usize,
}

impl Entry {
    pub(super) fn name(self) -> Vec<u8> {
        format!("device-{}", self.key).into_bytes()
    }
}

/// Returns `count` entries of equal length, with keys from `first`.
pub(super) fn entries(first: u64, count: u64, len: usize) -> Vec<Entry> {
    let entry = |key| Entry {
        key,
        version: 1,
        len,
    };
    (first..first + count).map(entry).collect()
}

impl Target {
    /// Creates a store with classes of these slot sizes and numbers, over any previous contents.
    pub(super) fn format(&self, classes: &[(usize, u64)]) -> Result<(), String> {
        let class = |&(slot_bytes, slots): &(usize, u64)| ClassRequest {
            slot_bytes: slot_bytes as u64,
            share: Share::Slots(slots),
        };
        let options = FormatOptions {
            key_len_max: 64,
            consent: true,
            force: true,
            ..FormatOptions::new(&self.path, classes.iter().map(class).collect())
        };
        let formatted = format(&options).map(drop);
        formatted.map_err(|why| format!("format: {}", words(&why)))
    }

    pub(super) fn options(&self) -> StoreOptions {
        StoreOptions {
            engine: self.engine,
            buffer_bytes: Some(32 * MIB),
            queue_depth: 64,
            ..StoreOptions::default()
        }
    }

    pub(super) fn open(&self) -> Result<Store, String> {
        self.open_with(|_| {})
    }

    pub(super) fn open_with(
        &self,
        change: impl FnOnce(&mut StoreOptions),
    ) -> Result<Store, String> {
        let mut options = self.options();
        change(&mut options);
        let store = Store::open(&self.path, options);
        store.map_err(|why| format!("open through {}: {}", self.engine, words(&why)))
    }

    /// Opens with eager validation, which must verify each of the `entries` entries that were put.
    pub(super) fn open_eager(&self, entries: usize) -> Result<Store, String> {
        let store = self.open_with(|options| options.validate = Validate::Eager)?;
        let report = store.recovery();
        let found = [
            report.entries,
            report.validated,
            store.stats().index.entries,
        ];
        match found == [entries as u64; 3] && report.lost_metadata.is_none() {
            true => Ok(store),
            false => Err(format!(
                "of {entries} entries written, recovery: {report:?}"
            )),
        }
    }

    /// Audits the closed store with all payloads; it must be sound and have so many.
    pub(super) fn audit(&self, payloads: u64) -> Result<(), String> {
        let options = AuditOptions {
            engine: self.engine,
            deep: true,
            ..AuditOptions::default()
        };
        let report = audit(&self.path, &options).map_err(|why| words(&why))?;
        match (report.damages, report.payloads_read) == (0, payloads) {
            true => Ok(()),
            false => Err(format!("of {payloads} payloads, the audit: {report:?}")),
        }
    }
}

/// Puts entries in batches of at most `batch`; all must be stored.
pub(super) fn put(store: &Store, entries: &[Entry], batch: usize) -> Result<(), String> {
    for batch in entries.chunks(batch) {
        let answers = try_put(store, batch);
        for (entry, answer) in batch.iter().zip(answers) {
            answer.map_err(|why| format!("put of {entry:?}: {why}"))?;
        }
    }
    Ok(())
}

/// Puts entries in one batch; returns a result per key.
pub(super) fn try_put(store: &Store, batch: &[Entry]) -> Vec<Result<(), String>> {
    let value = |entry: &Entry| bytes_of(entry.key, entry.version, entry.len);
    let values: Vec<_> = batch.iter().map(value).collect();
    let names: Vec<_> = batch.iter().map(|entry| entry.name()).collect();
    let pairs = names.iter().zip(&values);
    let puts = pairs.map(|(name, value)| Put::new(name, value)).collect();
    let answers = store.put_many(puts, PutOptions::default()).into_iter();
    let judge = |answer: PutResult| match answer {
        Ok(written) if written.is_written() => Ok(()),
        Ok(other) => Err(format!("{other:?}")),
        Err(why) => Err(words(&why)),
    };
    answers.map(judge).collect()
}

/// Gets entries in one batch; returns for each whether it is present. Every returned value must match.
pub(super) fn get(store: &Store, batch: &[Entry]) -> Vec<Result<bool, String>> {
    let names: Vec<_> = batch.iter().map(|entry| entry.name()).collect();
    let asked: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let answers = store.get_many(&asked).into_iter().zip(batch);
    let judge = |(answer, entry): (rb_core::Lookup, &Entry)| {
        let Some(bytes) = answer.map_err(|why| words(&why))? else {
            return Ok(false);
        };
        let version = version_of(entry.key, &bytes)?;
        match version == entry.version && bytes.len() == entry.len {
            true => Ok(true),
            false => Err(format!(
                "version {version} of {} bytes for {entry:?}",
                bytes.len()
            )),
        }
    };
    answers.map(judge).collect()
}

/// Checks that all entries are there, byte for byte.
pub(super) fn expect(store: &Store, entries: &[Entry], batch: usize) -> Result<(), String> {
    for batch in entries.chunks(batch) {
        for (entry, found) in batch.iter().zip(get(store, batch)) {
            match found {
                Ok(true) => {}
                Ok(false) => return Err(format!("{entry:?} is not there")),
                Err(why) => return Err(format!("get of {entry:?}: {why}")),
            }
        }
    }
    Ok(())
}

pub(super) fn close(store: &Store) -> Result<(), String> {
    store
        .close()
        .map_err(|why| format!("close: {}", words(&why)))
}

pub(super) fn sync(store: &Store) -> Result<(), String> {
    store.sync().map_err(|why| format!("sync: {}", words(&why)))
}
