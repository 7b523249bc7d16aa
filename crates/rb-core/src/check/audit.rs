//! The audit: reads everything that recovery reads, and more, and says what it found, what that means and
//! what is lost. It never writes.
//!
//! What would be recovered is decided by recovery itself, so the audit and an opening cannot disagree.
//! The audit adds what recovery has no need to look at: the copy that was not needed, the slots'
//! headers, with `deep` the payloads.
//!
//! **Damage** is what no crash leaves behind, wherever it strikes. What a crash can leave (a torn end
//! of the log, an unfinished base, an entry whose bytes never landed) is a **remark**. Where both are
//! possible it is a remark: an audit that cries wolf is not read. So after a crash more remains
//! undecided than in a store that was closed.
//!
//! In a store that was closed every entry must be whole that was put since the last crash of which the
//! log still knows. A crash so long ago that the log's ring has come round since is not known, and what
//! it left that was neither read nor validated nor evicted since passes for damage.

mod bases;
mod entries;
mod fixed;
mod report;
mod rings;
mod shared;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rb_format::Geometry;
use rb_index::Index;
use rb_io::{Access, Engine};

use crate::error::OpenError;
use crate::io::boot::{choose_superblock, read_copies};
use crate::io::meta_io::{BOOT_ARENA, MetaIo};
use crate::log::incarnations::newest_number;
use crate::open::checks::{check_capacity, check_features};
use crate::open::openings::read_openings;
use crate::open::recover::{RecoverOptions, recover};
use crate::open::source::{Source, open_path};
pub use report::{AuditReport, AuditState, Finding, Severity};
use shared::Audit;
pub use shared::AuditOptions;

/// Audits the store at `path`. Never writes, and keeps writers out meanwhile, unless `in_use` is set.
///
/// # Errors
/// What makes an answer impossible: nothing of ours is there, it is in use, of another version, or
/// the device does not answer. A store that is there and beyond use is not an error but
/// [`AuditState::Unusable`].
pub fn audit(path: impl AsRef<Path>, options: &AuditOptions) -> Result<AuditReport, OpenError> {
    let access = match options.in_use {
        true => Access::ReadOnly,
        false => Access::ReadLocked,
    };
    let source = open_path(path.as_ref(), access, options.engine)?;
    Ok(audit_source(&source, options)?.report)
}

/// Audits what an engine reaches; for simulated devices.
///
/// # Errors
/// As [`audit`].
pub fn audit_engine(
    engine: Arc<dyn Engine>,
    options: &AuditOptions,
) -> Result<AuditReport, OpenError> {
    Ok(audit_source(&Source::of_engine(engine), options)?.report)
}

/// A report, and the keys of the live entries that are not what the index says of them.
pub(crate) struct Audited {
    pub(crate) report: AuditReport,
    pub(crate) unproven: Vec<Box<[u8]>>,
}

pub(crate) fn audit_source(source: &Source, options: &AuditOptions) -> Result<Audited, OpenError> {
    let start = Instant::now();
    if !(1..=4096).contains(&options.queue_depth) {
        return Err(OpenError::Option {
            option: "queue_depth",
            value: options.queue_depth.to_string(),
            why: "1 to 4096",
        });
    }
    let (engine, capacity) = (source.engine.as_ref(), source.engine.capacity_bytes());
    let new_io = |arena| {
        MetaIo::new(engine, arena, options.queue_depth, options.io_deadline).map_err(|source| {
            OpenError::Io {
                what: "opening a queue",
                source,
            }
        })
    };
    let mut io = new_io(BOOT_ARENA)?;
    let copies = read_copies(&mut io, capacity);
    let chosen = choose_superblock(&mut io, &copies, &source.path, capacity).and_then(|found| {
        check_capacity(&source.path, &found.newest, capacity, true)?;
        Ok(found)
    });
    let mut found = match chosen {
        Ok(found) => found,
        Err(why) => {
            let mut report = fixed::without_superblock(&mut io, &copies, capacity, why)?;
            report.time = start.elapsed();
            return Ok(Audited {
                report,
                unproven: Vec::new(),
            });
        }
    };
    check_features(&source.path, &found.newest, true)?;
    let known = read_openings(&mut io, &copies, &mut found)?;
    let geometry = Geometry::new(&found.newest);
    let mut audit = Audit {
        io,
        superblock: &found.newest,
        geometry: &geometry,
        options,
        report: AuditReport::new(Some(found.newest.clone()), options.deep),
        settled_from: None,
    };
    audit.incarnations(&known);
    let mut foreign = audit.foreign(&copies, &known, capacity)?;
    let shards = Index::default_shards(u64::from(geometry.slots()));
    let recovered = recover(
        &mut audit.io,
        &found.newest,
        &geometry,
        shards,
        RecoverOptions::LOOK,
    )?;
    // An opening that wrote more than its incarnation block had repaired both before.
    audit.copies(&copies, recovered.incarnation > 0);
    audit
        .report
        .recovered(&recovered, recovered.is_clean(newest_number(&known)));
    if let (true, Some(closer)) = (audit.report.clean, recovered.closed_by) {
        let crashed = audit.last_crash(closer)?;
        audit.settled_from = Some(crashed.map_or(0, |crashed| crashed + 1));
    }
    audit.openings_agree(&known, &recovered);
    let lost = audit.lost_incarnations(&known, &recovered);
    audit.somebody_elses(&foreign);
    // The finding about the incarnation blocks says it already.
    foreign.extend(lost);
    audit.report.foreign = foreign;
    audit.lost(&recovered);
    audit.bad_blocks(&recovered);
    audit.bases(&recovered, shards)?;
    if found.newest.device_bytes > capacity {
        audit.cut(&recovered, capacity);
    } else {
        audit.rings(&recovered)?;
        audit.log_end(&recovered)?;
    }
    audit.accounting(&recovered.index);
    // The largest value, header included, must fit, and some of them to keep the device busy.
    let largest = crate::value::ValueBuf::stride(geometry.largest_value() as usize);
    if options.deep && 8 * largest > BOOT_ARENA {
        audit.io = new_io(
            BOOT_ARENA
                .max(largest * 8)
                .min((256 << 20).max(2 * largest)),
        )?;
    }
    let unproven = audit.entries(&recovered.index)?;
    let Audit { mut report, .. } = audit;
    report.time = start.elapsed();
    Ok(Audited { report, unproven })
}
