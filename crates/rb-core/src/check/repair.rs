//! Repairs a store: first everything that costs nothing, then the remaining content becomes the
//! store's content.
//!
//! Opening for writing already repairs most damage: it rewrites superblock copies, starts a new
//! incarnation, loads the base that is whole, and rebuilds lost metadata from slot headers. A
//! repair additionally removes exactly the entries that fail verification, and rewrites both bases.

use std::sync::Arc;

use rb_io::Access;

use crate::check::audit::{AuditOptions, AuditReport, AuditState, Audited, audit_opened};
use crate::error::{Error, OpenError};
use crate::io::meta_io::MetaIo;
use crate::io::superblocks::{choose_superblock, read_copies};
use crate::io::whose;
use crate::open::opened::Opened;
use crate::open::sessions::read_openings;
use crate::options::{Background, OnLostMetadata, StoreOptions, Validate};
use crate::source::Source;
use crate::store::Store;

/// Keys removed per call.
const BATCH: usize = 256;
/// A session writes one of the two incarnation blocks; the second round writes the other.
const ROUNDS: usize = 2;
const RECLAIM_ARENA: usize = 4 << 20;

/// Result of a repair.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepairReport {
    /// The audit before the repair.
    pub before: AuditReport,
    /// The audit after the repair; `None` if nothing was done because the store was not damaged,
    /// was beyond repair, or consent was not given.
    pub after: Option<AuditReport>,
    /// Number of entries removed because they failed verification.
    pub dropped: u64,
    /// True if metadata was lost and the content was rebuilt from slot headers.
    pub rebuilt: bool,
}

/// Audits a store and repairs it if it is damaged and `consent`, which gets the report, returns
/// true. A store that is clean or unusable is left unchanged.
///
/// A device or file is held for writing from the audit to the end of the repair, so that no other
/// process changes it in between.
///
/// # Errors
/// Same as [`audit`](crate::audit()), and the errors of the repair itself. [`OpenError::Foreign`],
/// with nothing written, if the device holds another program's data and `force` is not set.
///
/// ```
/// use rb_core::{AuditOptions, AuditState, repair};
/// # use rb_core::{ClassRequest, FormatOptions, Share, Store, StoreOptions};
/// # let dir = tempfile::tempdir()?;
/// # let class = ClassRequest { slot_bytes: 64 << 10, share: Share::Slots(16) };
/// # let options = FormatOptions::new(dir.path().join("cache"), vec![class]);
/// # let store = Store::open_or_create(&options, StoreOptions::default())?;
/// store.put(b"key", b"value")?;
/// store.put(b"damaged", b"value")?;
/// let mut slot = None;
/// store.for_each(|entry| {
///     if *entry.key == *b"damaged" {
///         slot = store.geometry().payload_offset(entry.slot);
///     }
///     true
/// });
/// store.close()?;
/// let path = dir.path().join("cache");
/// let file = std::fs::OpenOptions::new().write(true).open(&path)?;
/// std::os::unix::fs::FileExt::write_all_at(&file, b"!", slot.expect("it was put"))?;
///
/// let thorough = AuditOptions { deep: true, ..AuditOptions::default() };
/// let report = repair(&path, &thorough, |found| found.state == AuditState::Damaged)?;
/// assert_eq!(report.dropped, 1);
/// assert!(report.after.is_some_and(|after| after.state == AuditState::Clean));
/// let store = Store::open(&path, StoreOptions::default())?;
/// assert_eq!(store.contains_many(&[b"key", b"damaged"]), [true, false]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn repair(
    source: impl Into<Source>,
    options: &AuditOptions,
    consent: impl FnOnce(&AuditReport) -> bool,
) -> Result<RepairReport, OpenError> {
    // A truncated file is grown only with consent.
    let mut source = Opened::as_it_is(source.into(), Access::ReadWrite, options.engine)?;
    source.distrust_cache()?;
    let mut audited = audit_opened(&source, options)?;
    let mut done = RepairReport {
        before: audited.report.clone(),
        after: None,
        dropped: 0,
        rebuilt: audited.report.lost_metadata.is_some(),
    };
    if done.before.state == AuditState::Damaged {
        // Before asking: consent to a repair does not include overwriting another program's data.
        whose::check(&source.path, &done.before.foreign, options.force)?;
    }
    if done.before.state != AuditState::Damaged || !consent(&done.before) {
        return Ok(done);
    }
    let needed = done.before.superblock.as_ref();
    let needed = needed.map_or(0, |superblock| superblock.device_bytes);
    if source.device.is_some() && needed > source.engine.capacity_bytes() {
        // Growing the file is the first write, so it comes after the consent.
        let path = source.path.clone();
        drop(source);
        source = Opened::new(path.into(), Access::ReadWrite, options.engine)?;
        source.distrust_cache()?;
        audited = audit_opened(&source, options)?;
    }
    if options.force {
        reclaim(&source, options)?;
    }
    for _ in 0..ROUNDS {
        done.dropped += round(&source, options, &audited)?;
        audited = audit_opened(&source, options)?;
        let state = audited.report.state;
        done.after = Some(audited.report.clone());
        if state != AuditState::Damaged {
            break;
        }
    }
    Ok(done)
}

/// Takes the fixed blocks and the unused areas back from another program.
fn reclaim(source: &Opened, options: &AuditOptions) -> Result<(), OpenError> {
    let failed = |source| {
        let what = "writing over what is not the store's";
        OpenError::Io { what, source }
    };
    let engine = source.engine.as_ref();
    let mut io = MetaIo::new(engine, RECLAIM_ARENA, 8, options.io_deadline).map_err(failed)?;
    let capacity = engine.capacity_bytes();
    let copies = read_copies(&mut io, capacity);
    let mut found = choose_superblock(&mut io, &copies, &source.path, capacity)?;
    let blocks = read_openings(&mut io, &copies, &mut found)?;
    whose::reclaim(&mut io, &found.newest, &copies, &blocks).map_err(failed)
}

/// Opens the store once, removes the unverified entries and writes both bases. Returns the number
/// of entries removed.
fn round(source: &Opened, options: &AuditOptions, audited: &Audited) -> Result<u64, OpenError> {
    let store = Store::open(
        Arc::clone(&source.engine),
        StoreOptions {
            // Nothing but the repair may change the store.
            background: Background::Manual,
            // The audit has read all headers already.
            validate: Validate::Off,
            on_lost_metadata: OnLostMetadata::Scan,
            force: options.force,
            queue_depth: options.queue_depth,
            io_deadline: options.io_deadline,
            ..StoreOptions::default()
        },
    )?;
    let before = store.stats().index.entries;
    let keys: Vec<&[u8]> = audited.unverified.iter().map(|key| &**key).collect();
    keys.chunks(BATCH)
        .try_for_each(|keys| remove(&store, keys))
        .map_err(OpenError::Writer)?;
    let after = store.stats().index.entries;
    // Closing writes the other base.
    store
        .checkpoint()
        .and_then(|()| store.close())
        .map_err(OpenError::Writer)?;
    Ok(before - after)
}

/// Removes the keys, in parts if the log is too small or too full for all of them. Removing a key
/// twice is harmless.
fn remove(store: &Store, keys: &[&[u8]]) -> Result<(), Error> {
    let failed = store.remove_many(keys).into_iter().find_map(Result::err);
    match failed {
        None => store.step_checkpoint().map(|_| ()),
        Some(Error::Busy { .. }) => {
            // Two checkpoints: the ring keeps what the older of two bases needs.
            store.checkpoint()?;
            store.checkpoint()?;
            if let [key] = keys {
                return store.remove(key).map(|_| ());
            }
            // Halve the batch until its records fit the log.
            let (some, others) = keys.split_at(keys.len() / 2);
            remove(store, some)?;
            remove(store, others)
        }
        Some(error) => Err(error),
    }
}
