//! Runs a whole audit, from the superblocks to the last entry.

use std::time::Instant;

use rb_format::Geometry;

use super::fixed;
use super::report::AuditReport;
use super::shared::{Audit, AuditOptions};
use crate::core::pieces::buffer_bytes;
use crate::error::OpenError;
use crate::io::meta_io::{BOOT_ARENA, MetaIo};
use crate::io::superblocks::{choose_superblock, read_copies};
use crate::open::checks::{check_capacity, check_features};
use crate::open::opened::Opened;
use crate::open::recover_options::RecoverOptions;
use crate::open::sessions::read_openings;

/// The report, and the keys of the live entries that failed verification.
pub(crate) struct Audited {
    pub(crate) report: AuditReport,
    pub(crate) unverified: Vec<Box<[u8]>>,
}

pub(crate) fn audit_opened(source: &Opened, options: &AuditOptions) -> Result<Audited, OpenError> {
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
        // A truncated device can be audited as long as it holds the metadata.
        check_capacity(&source.path, &found.newest, capacity, true)?;
        Ok(found)
    });
    let mut found = match chosen {
        Ok(found) => found,
        Err(why) => {
            let mut report = fixed::without_superblock(&copies, why)?;
            report.time = start.elapsed();
            return Ok(Audited {
                report,
                unverified: Vec::new(),
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
        capacity,
        report: AuditReport::new(Some(found.newest.clone()), options.deep),
        settled_from: None,
    };
    let how = RecoverOptions::look(&geometry)?;
    let recovered = audit.metadata(&copies, &known, capacity, &how)?;
    audit.bases(&recovered, &how)?;
    if found.newest.device_bytes > capacity {
        // Ring 2 lies in the missing part, so the rings cannot be compared.
        audit.cut(&recovered, capacity);
    } else {
        audit.rings(&recovered)?;
        audit.log_end(&recovered)?;
    }
    audit.accounting(&recovered.index)?;
    // The largest value with its header must fit, and several of them to keep the device busy.
    let largest = buffer_bytes(geometry.largest_value() as usize, 1);
    if options.deep && 8 * largest > BOOT_ARENA {
        audit.io = new_io(
            BOOT_ARENA
                .max(largest * 8)
                .min((256 << 20).max(2 * largest)),
        )?;
    }
    let unverified = audit.entries(&recovered.index)?;
    let Audit { mut report, .. } = audit;
    report.time = start.elapsed();
    Ok(Audited { report, unverified })
}
