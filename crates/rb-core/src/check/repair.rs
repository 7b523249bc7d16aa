//! Repair: what can be mended without loss first, then what is left is written down as the store's content.
//!
//! Opening for writing already mends most: it writes a superblock copy anew, begins an incarnation, loads
//! the base that is whole, and where metadata is lost goes by what slot headers prove. What is left to do
//! is to take out exactly the entries that do not prove themselves, and to write both bases anew.

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

/// Entries removed at once.
const BATCH: usize = 256;
/// The second round writes the place that the first left alone, of the incarnation blocks.
const ROUNDS: usize = 2;
const RECLAIM_ARENA: usize = 4 << 20;

/// What a repair did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepairReport {
    /// The store as it was.
    pub before: AuditReport,
    /// The store as it is now; none if nothing was done: it was not damaged, was beyond repair, or consent
    /// was not given.
    pub after: Option<AuditReport>,
    /// Entries taken out because they did not prove themselves.
    pub dropped: u64,
    /// Metadata was lost, and what slot headers prove became the store's content.
    pub rebuilt: bool,
}

/// Audits a store and repairs it if it is damaged and `consent`, shown what was found, agrees.
/// A store that is clean or unusable is left as it is.
///
/// A device or file is held for writing from the audit to the end of the repair, so no other process changes it in between.
///
/// # Errors
/// As [`audit`](crate::audit()), and when the repair itself fails. [`OpenError::Foreign`], with nothing written, if the
/// device shows to belong to another program, unless the options say `force`.
pub fn repair(
    source: impl Into<Source>,
    options: &AuditOptions,
    consent: impl FnOnce(&AuditReport) -> bool,
) -> Result<RepairReport, OpenError> {
    // A cut file is grown only with consent.
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
        // Before anyone is asked: agreeing to a repair is no agreement to that.
        whose::check(&source.path, &done.before.foreign, options.force)?;
    }
    if done.before.state != AuditState::Damaged || !consent(&done.before) {
        return Ok(done);
    }
    let needed = done.before.superblock.as_ref();
    let needed = needed.map_or(0, |superblock| superblock.device_bytes);
    if source.device.is_some() && needed > source.engine.capacity_bytes() {
        // Growing a file is the first thing that is written, and needs the agreement too.
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

/// Makes the fixed blocks and the unused areas the store's again.
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

/// One opening that takes out what is unverified, and leaves both bases new. Answers how many entries went.
fn round(source: &Opened, options: &AuditOptions, audited: &Audited) -> Result<u64, OpenError> {
    let store = Store::open(
        Arc::clone(&source.engine),
        StoreOptions {
            background: Background::Manual,
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

/// Removes the keys, in parts if the log is too small or too full for them all. To remove a key twice does
/// no harm.
fn remove(store: &Store, keys: &[&[u8]]) -> Result<(), Error> {
    let failed = store.remove_many(keys).into_iter().find_map(Result::err);
    match failed {
        None => store.step_checkpoint().map(|_| ()),
        Some(Error::Busy { .. }) => {
            // The ring keeps what the older of two bases needs.
            store.checkpoint()?;
            store.checkpoint()?;
            if let [key] = keys {
                return store.remove(key).map(|_| ());
            }
            let (some, others) = keys.split_at(keys.len() / 2);
            remove(store, some)?;
            remove(store, others)
        }
        Some(error) => Err(error),
    }
}
