//! Recovery: loads the newest usable base, replays the log after it, then serves.
//!
//! Recovery never writes. If the newest base is damaged, the older one and a longer stretch of log
//! give the same result. If neither is usable, or if a later block proves that a damaged part of
//! the log was once whole, metadata is lost and the options decide what happens.
//!
//! Memory is bounded for any content of the device, and checked before it is used: the fixed
//! buffers, one decoded section per thread, 8 bytes per slot, and an index entry per claim. A base
//! makes at most one claim per slot and per put record that the ring can hold, the log at most one
//! per record. So a small device never requires much memory.

use std::time::Instant;

use rb_format::{Geometry, LogPosition, Superblock};
use rb_index::SlotId;

use crate::error::{Error, OpenError};
use crate::io::headers::{BASE_NAMES, FoundBase, Headers, read_headers};
use crate::io::meta_io::MetaIo;
use crate::io::unusable::Unusable;
use crate::log::chain::{Copies, Damage};
use crate::open::base_load::load_base;
use crate::open::recover_options::{RecoverOptions, finish, loader};
use crate::open::recovered::Recovered;
use crate::open::replay::{ReplayFrom, Replayed, highest_sequence, replay};
use crate::open::scan::scan;
use crate::report::RecoveryReport;
use crate::trace;

/// Most restarts of a read-only open because a concurrent writer replaced what it had read.
const MOVES_MAX: u32 = 16;

impl RecoverOptions {
    /// Recovers the index. Reads only.
    pub(crate) fn recover(
        &self,
        io: &mut MetaIo,
        superblock: &Superblock,
        geometry: &Geometry,
    ) -> Result<Recovered, OpenError> {
        let mut moves = MOVES_MAX;
        let span = trace::recovery();
        loop {
            let found = span.during(|| recover_once(io, superblock, geometry, self, moves))?;
            if let Some(recovered) = found {
                return Ok(recovered);
            }
            moves -= 1;
        }
    }
}

/// Makes one attempt. Returns `None` if metadata seems lost but the base headers have changed since
/// the attempt began, and there are `moves` left.
fn recover_once(
    io: &mut MetaIo,
    superblock: &Superblock,
    geometry: &Geometry,
    options: &RecoverOptions,
    moves: u32,
) -> Result<Option<Recovered>, OpenError> {
    let mut headers = read_headers(io, superblock).map_err(no_base)?;
    let mut unusable = std::mem::take(&mut headers.damaged);
    let mut lost = None;
    for base in &headers.found {
        match from_base(io, superblock, geometry, base, options)? {
            Ok((mut recovered, damage)) => {
                let (end, durable_end) = (recovered.end.sequence, headers.durable_end());
                let short = (end < durable_end).then(|| Damage {
                    block: end,
                    why: format!("the log ends at block {end}, yet a base names all before {durable_end} as durable"),
                });
                // A closed store has at least its close record after either base.
                let gone = headers.overwritten(&superblock.identity);
                let bare = gone.filter(|_| recovered.report.log_blocks == 0).map(|name| Damage {
                    block: end,
                    why: format!("base {name} is lost, and no log follows the other one: newer changes may be lost"),
                });
                lost = damage.or(short).or(bare);
                // The older base would replay the same log and meet the same damage.
                if lost.is_some() {
                    break;
                }
                recovered.report.base_damage = unusable;
                complete(&mut recovered, superblock, &headers);
                return Ok(Some(recovered));
            }
            Err(why) => unusable.push(format!("base {}: {why}", BASE_NAMES[base.region])),
        }
    }
    if moves > 0 && read_headers(io, superblock).map_err(no_base)?.found != headers.found {
        return Ok(None);
    }
    let (lost_block, why) = match lost {
        Some(Damage { block, why }) => (Some(block), why),
        None => {
            let all = [unusable.as_slice(), headers.absent.as_slice()].concat();
            let why = format!("no usable checkpoint base ({})", all.join("; "));
            (None, why)
        }
    };
    let mut recovered = without_metadata(io, superblock, geometry, options)
        .map_err(failed("reading slot headers"))?;
    complete_without(&mut recovered, &headers);
    recovered.report.base_damage = unusable;
    recovered.report.lost_metadata = Some(why);
    recovered.lost_block = lost_block;
    Ok(Some(recovered))
}

/// Completes a recovery from one base and its log with the information of all headers.
fn complete(recovered: &mut Recovered, superblock: &Superblock, headers: &Headers) {
    recovered.base_sequence = headers.base_sequence();
    recovered.header_copies = headers
        .weak()
        .map(|(place, header)| (place.offset, header.encode()))
        .collect();
    recovered.bad_blocks = headers.bad_blocks();
    recovered.report.one_copy = recovered.copies.lost();
    // After a close no crash explains a header that is in one place only.
    let closed = recovered.closed_by.is_some();
    let weak = headers
        .weak()
        .filter(|(place, _)| closed || !place.may_be_by_crash(&superblock.identity))
        .map(|(place, _)| {
            let wrong = place.wrong().unwrap_or_default();
            format!("the {}: {wrong}", place.title())
        });
    recovered.report.one_copy.extend(weak);
    let (end, ring) = (recovered.end.sequence, superblock.log_blocks());
    recovered.tail = headers
        .found
        .iter()
        .map(|base| base.header.position.sequence)
        // A base from before a lost log is useless and keeps nothing.
        .filter(|position| end.saturating_sub(*position) < ring)
        .fold(recovered.tail, u64::min);
}

/// Completes a recovery without a base with the information of all headers.
fn complete_without(recovered: &mut Recovered, headers: &Headers) {
    recovered.incarnation = recovered.incarnation.max(headers.incarnation());
    recovered.base_sequence = headers.base_sequence();
    // The new log must start behind everything a base names as durable, or the next recovery would
    // report the blocks up to there as missing.
    recovered.end.sequence = recovered.end.sequence.max(headers.durable_end());
    recovered.tail = recovered.end.sequence;
    restore_bad_slots(recovered, headers.bad_slots());
    recovered.bad_blocks = headers.bad_blocks();
}

/// The error of an open that must stop rather than continue without a base.
pub(crate) fn no_base(why: Unusable) -> OpenError {
    let what = "reading a checkpoint base";
    match why {
        Unusable::NoAnswer(source) => OpenError::Io { what, source },
        Unusable::Unreadable(why) => OpenError::Build { why },
        Unusable::Damage(why) | Unusable::Absent(why) => OpenError::Resource { what, why },
    }
}

/// Marks slots as bad that a header listed, after the rest of the metadata was lost.
pub(crate) fn restore_bad_slots(recovered: &mut Recovered, bad_slots: Vec<u32>) {
    for slot in bad_slots {
        // False if an entry holds the slot: its header was readable, so the slot is not bad, and
        // listing it in the next base would drop the entry at the next open.
        if recovered.index.mark_bad(SlotId(slot)) {
            recovered.bad_slots.push(slot);
        }
    }
}

fn failed(what: &'static str) -> impl Fn(Error) -> OpenError {
    move |source| OpenError::Io { what, source }
}

pub(crate) type FromBase = Result<(Recovered, Option<Damage>), String>;

/// Loads one base and replays the log after it. The inner error is the reason why the base is
/// unusable; `Damage` describes damage of the log.
pub(crate) fn from_base(
    io: &mut MetaIo,
    superblock: &Superblock,
    geometry: &Geometry,
    base: &FoundBase,
    options: &RecoverOptions,
) -> Result<FromBase, OpenError> {
    let mut refuted = Vec::new();
    loop {
        match from_base_without(io, superblock, geometry, base, options, &refuted)? {
            Ok(found) => return Ok(found),
            // Terminates: each refuted block is a different one in the same place.
            Err(checksum) => refuted.push(checksum),
        }
    }
}

/// Like [`from_base`], but skips blocks with the given checksums. The middle error is the checksum
/// of another block to skip.
fn from_base_without(
    io: &mut MetaIo,
    superblock: &Superblock,
    geometry: &Geometry,
    base: &FoundBase,
    options: &RecoverOptions,
    refuted: &[u64],
) -> Result<Result<FromBase, u64>, OpenError> {
    let failed_index = failed("making the index");
    let index = options.empty_index(geometry).map_err(&failed_index)?;
    let mut report = RecoveryReport::default();
    let loader = loader(&index).map_err(&failed_index)?;
    let start = Instant::now();
    let stage = trace::stage("base");
    match load_base(io, superblock, geometry, base, &loader) {
        Ok(()) => {}
        Err(Unusable::Damage(why) | Unusable::Absent(why)) => return Ok(Ok(Err(why))),
        Err(other) => return Err(no_base(other)),
    }
    stage.done();
    report.base_time = start.elapsed();

    let start = Instant::now();
    let stage = trace::stage("log");
    let from = ReplayFrom {
        start: base.header.position,
        recency: base.header.recency_now,
        refuted,
        check_order: options.check_order,
    };
    let replayed = match replay(io, superblock, geometry, from, &loader)
        .map_err(failed("reading the delta log"))?
    {
        Ok(replayed) => readable(replayed)?,
        Err(checksum) => return Ok(Err(checksum)),
    };
    stage.done();
    report.log_time = start.elapsed();

    let start = Instant::now();
    let loaded = finish(loader, geometry, replayed.recency);
    report.index_time = start.elapsed();

    if loaded.refused > 0 || loaded.duplicate_slots_left > 0 {
        return Ok(Ok(Err(format!(
            "it and the log claim what cannot be: {loaded:?}"
        ))));
    }
    report.entries = loaded.entries;
    report.base_sequence = Some(base.header.base_sequence);
    report.lifetime = base.header.lifetime;
    report.log_blocks = replayed.blocks;
    report.log_records = replayed.records;
    let header = &base.header;
    let recovered = Recovered {
        index,
        report,
        end: replayed.end,
        newest: Some(Recovered::place_of(base)),
        tail: header.position.sequence,
        closed_by: replayed.clean.then_some(replayed.incarnation),
        base_sequence: header.base_sequence,
        incarnation: replayed
            .incarnation
            .max(header.incarnation)
            .max(header.generation_floor.incarnation()),
        bad_slots: [header.bad_slots.as_slice(), &replayed.bad_slots].concat(),
        bad_blocks: Vec::new(),
        lost_block: None,
        copies: replayed.copies,
        refuted: refuted.to_vec(),
        header_copies: Vec::new(),
    };
    Ok(Ok(Ok((recovered, replayed.damage))))
}

/// Rejects a log that is out of order, if that was checked.
fn readable(replayed: Replayed) -> Result<Replayed, OpenError> {
    match replayed.disorder {
        Some(disorder) => Err(OpenError::LogOrder { why: disorder.why }),
        None => Ok(replayed),
    }
}

/// Rebuilds the index without metadata: from the slot headers, or empty.
fn without_metadata(
    io: &mut MetaIo,
    superblock: &Superblock,
    geometry: &Geometry,
    options: &RecoverOptions,
) -> Result<Recovered, Error> {
    let index = options.empty_index(geometry)?;
    let mut report = RecoveryReport::default();
    // The new log starts behind every block that may still be in the ring, so that none can join
    // its chain.
    let start = Instant::now();
    let (sequence, mut incarnation) = highest_sequence(io, superblock)?;
    let end = LogPosition {
        sequence: sequence + 1,
        anchor: 0,
    };
    let loader = loader(&index)?;
    if options.scans {
        let _stage = trace::stage("scan");
        let (scanned, newest) = scan(io, superblock, geometry, &loader)?;
        report.scanned = Some(scanned);
        incarnation = incarnation.max(newest);
    }
    report.log_time = start.elapsed();
    let start = Instant::now();
    report.entries = finish(loader, geometry, 0).entries;
    report.index_time = start.elapsed();
    Ok(Recovered {
        index,
        report,
        end,
        newest: None,
        tail: end.sequence,
        closed_by: None,
        base_sequence: 0,
        incarnation,
        bad_slots: Vec::new(),
        bad_blocks: Vec::new(),
        lost_block: None,
        copies: Copies::default(),
        refuted: Vec::new(),
        header_copies: Vec::new(),
    })
}
