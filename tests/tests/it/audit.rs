//! Tests of the audit: it finds damage in every structure, and does not report what a crash leaves as damage.

use std::ops::Range;

use rb_core::{
    AuditOptions, AuditReport, AuditState, EngineKind, FormatOptions, OpenError, Severity, Side,
    Store, Superblock, Target, audit, format, inspect,
};
use rb_format::{
    FORMAT_BLOCK, INCARNATION_A_OFFSET, INCARNATION_B_OFFSET, SUPERBLOCK_A_OFFSET,
    SUPERBLOCK_B_OFFSET, log_block_offset, log_blocks, magic::MAGIC_LOG_BLOCK,
};
use rb_io::OpKind;

use crate::support::{EIO, Sim, base_headers, key, range_of, value};

const ENTRIES: u64 = 12;
const BLOCK: u64 = FORMAT_BLOCK as u64;

impl Sim {
    pub(crate) fn audit(&self) -> AuditReport {
        self.audit_with(false)
    }

    pub(crate) fn audit_with(&self, deep: bool) -> AuditReport {
        let options = AuditOptions {
            deep,
            ..AuditOptions::default()
        };
        let before = self.device.counts();
        let report = audit(self.engine(), &options).unwrap();
        let after = self.device.counts();
        assert_eq!(
            (before.writes, before.flushes, before.discards),
            (after.writes, after.flushes, after.discards),
            "an audit never writes"
        );
        report
    }

    pub(crate) fn rot(&self, at: u64) {
        self.device.corrupt(at..at + 1);
    }
}

/// Makes a store with entries in both bases, and some only in the log; opened twice, so that both incarnation blocks
/// are written. If `closed`, the session that closed it put everything.
pub(crate) fn filled(closed: bool) -> (Sim, Store) {
    let sim = Sim::new(16);
    sim.open().close().unwrap();
    let store = sim.open();
    for n in 0..ENTRIES {
        store.put(&key(n), &value(n, 3000)).unwrap();
        if n == 4 {
            store.checkpoint().unwrap();
        }
    }
    store.checkpoint().unwrap();
    store.remove(&key(0)).unwrap();
    store.put(&key(0), &value(0, 3000)).unwrap();
    store.sync().unwrap();
    store.put(&key(1), &value(1, 3000)).unwrap();
    store.sync().unwrap();
    if closed {
        store.close().unwrap();
    }
    (sim.crash(), store)
}

/// Returns the offset of a key's value in what a crash leaves.
pub(crate) fn slot_of(sim: &Sim, wanted: u64) -> u64 {
    slot_of_key(sim, &key(wanted))
}

fn slot_of_key(sim: &Sim, wanted: &[u8]) -> u64 {
    let store = sim.crash().open();
    let mut found = None;
    store.for_each(|entry| {
        if *entry.key == *wanted {
            found = store.geometry().slot_offset(entry.slot);
        }
        true
    });
    found.unwrap()
}

/// Returns the offset of the last block of a log that has not wrapped.
pub(crate) fn last_block(sim: &Sim, sb: &Superblock) -> u64 {
    let image = sim.device.live_image();
    let is_block =
        |n: &u64| image[log_block_offset(&sb.log, *n) as usize..].starts_with(&MAGIC_LOG_BLOCK);
    (1..log_blocks(&sb.log)).rfind(is_block).unwrap()
}

#[track_caller]
fn finds(report: &AuditReport, structure: &str) {
    assert_eq!(
        report.state,
        AuditState::Damaged,
        "{structure}: {report:#?}"
    );
    let damage = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Damage);
    let mut damage = damage.peekable();
    assert!(damage.peek().is_some());
    assert!(
        damage.all(|finding| finding.structure.starts_with(structure)),
        "{structure}: {report:#?}"
    );
}

#[test]
fn sound_stores_are_clean() {
    for closed in [true, false] {
        let (sim, _) = filled(closed);
        let report = sim.audit_with(true);
        assert_eq!(
            (report.state, report.findings.len()),
            (AuditState::Clean, 0),
            "{report:#?}"
        );
        assert_eq!((report.clean, report.unverified), (closed, 0));
        assert_eq!(
            (report.headers_read, report.payloads_read),
            (ENTRIES, ENTRIES)
        );
    }
    let fresh = Sim::new(4).audit();
    assert_eq!(
        (fresh.state, fresh.clean, fresh.findings.len()),
        (AuditState::Clean, true, 0)
    );
}

#[test]
fn damage_is_found_in_each_structure() {
    let (sim, store) = filled(true);
    let sb = store.superblock().clone();
    let slot = slot_of(&sim, 3);
    let cases = [
        (SUPERBLOCK_A_OFFSET + 100, "superblock copy A"),
        (SUPERBLOCK_B_OFFSET + 2000, "superblock copy B"),
        (INCARNATION_A_OFFSET + 3, "incarnation block"),
        (INCARNATION_B_OFFSET + 700, "incarnation block"),
        (sb.base_a.offset + 50, "checkpoint base A"),
        (sb.base_b.offset + 50, "checkpoint base B"),
        (sb.base_a.offset + BLOCK + 70, "checkpoint base A"),
        (sb.base_b.offset + BLOCK + 70, "checkpoint base B"),
        (slot + 90, "slot"),
        (slot + 40, "slot"),
    ];
    for (at, structure) in cases {
        let sim = sim.crash();
        sim.rot(at);
        finds(&sim.audit(), structure);
    }
    // Erased, not rotten.
    let erased = sim.crash();
    erased.device.poke(sb.base_a.offset, &[0; FORMAT_BLOCK]);
    finds(&erased.audit(), "checkpoint base A");
    // Blocks that the device cannot read.
    for at in [
        SUPERBLOCK_B_OFFSET,
        INCARNATION_A_OFFSET,
        sb.base_b.offset,
        slot,
    ] {
        let sim = sim.crash();
        sim.device.fail_always(OpKind::Read, at..at + 1, EIO);
        assert_eq!(sim.audit().state, AuditState::Damaged, "byte {at}");
    }
}

#[test]
fn rot_in_a_payload_is_found_by_a_deep_audit() {
    let (sim, _store) = filled(true);
    sim.rot(slot_of(&sim, 7) + BLOCK + 1000);
    assert_eq!(sim.audit().state, AuditState::Clean);
    let report = sim.audit_with(true);
    finds(&report, "slot");
    assert_eq!((report.damages, report.unverified), (1, 1));
    assert!(report.findings[0].lost.contains("key-7"), "{report:#?}");
}

/// After a crash it is unknown whether bytes that do not match ever landed, so the audit reports them without calling
/// them damage; damage that no torn write explains is still damage.
#[test]
fn after_a_crash_only_what_no_crash_explains_is_damage() {
    let (sim, _store) = filled(false);
    let slot = slot_of(&sim, 7);
    let payload = sim.crash();
    payload.rot(slot + BLOCK + 1000);
    let report = payload.audit_with(true);
    assert_eq!(
        (report.state, report.remarks, report.unverified),
        (AuditState::Clean, 1, 1)
    );
    let header = sim.crash();
    header.rot(slot + 82);
    finds(&header.audit(), "slot");
    // The header of another slot.
    let misdirected = sim.crash();
    let image = sim.device.live_image();
    let other = slot_of(&sim, 8) as usize;
    misdirected
        .device
        .poke(slot, &image[other..other + FORMAT_BLOCK]);
    finds(&misdirected.audit(), "slot");
}

/// Remains of a crash may still be there, unread, when the store was closed later. Only what was put since must be
/// whole; without any crash, everything must.
#[test]
fn a_closed_store_is_held_to_what_was_put_since_the_last_crash() {
    let (sim, _store) = filled(true);
    let rotten = sim.crash();
    rotten.open().close().unwrap();
    rotten.rot(slot_of(&sim, 7) + BLOCK + 1000);
    finds(&rotten.audit_with(true), "slot");

    let (sim, _store) = filled(false);
    let again = sim.open();
    again.put(b"later", &value(99, 3000)).unwrap();
    again.close().unwrap();
    let before = sim.crash();
    before.rot(slot_of(&sim, 7) + BLOCK + 1000);
    let report = before.audit_with(true);
    assert_eq!(
        (report.clean, report.damages, report.remarks),
        (true, 0, 1),
        "{report:#?}"
    );
    let slot = slot_of_key(&sim, b"later");
    sim.rot(slot + BLOCK + 1000);
    finds(&sim.audit_with(true), "slot");
}

/// A close after a crash in the middle of puts and evictions does not turn the remains into damage.
#[test]
fn crashes_before_a_close_leave_no_damage() {
    for seed in 0..60 {
        let sim = Sim::new(8);
        let store = sim.open();
        sim.device.cut_power_after(40 + seed);
        for n in 0..60 {
            drop(store.put(&key(n % 13), &value(n, 3000)));
            if n % 7 == 0 {
                drop(store.sync());
            }
        }
        let sim = sim.crash_seeded(seed);
        let left = sim.audit_with(true);
        assert_eq!(left.damages, 0, "seed {seed}: {left:#?}");
        let store = sim.open();
        store.put(b"later", &value(99, 3000)).unwrap();
        store.close().unwrap();
        sim.open().close().unwrap();
        let report = sim.audit_with(true);
        assert_eq!(
            (report.clean, report.damages),
            (true, 0),
            "seed {seed}: {report:#?}"
        );
    }
}

#[test]
fn a_damaged_log_is_lost_metadata_and_its_torn_end_is_not() {
    let (sim, store) = filled(false);
    let sb = store.superblock().clone();
    let end = last_block(&sim, &sb);
    let torn = sim.crash();
    torn.corrupt_log(&sb, end);
    let report = torn.audit();
    assert_eq!(
        (report.state, report.remarks),
        (AuditState::Clean, 1),
        "{report:#?}"
    );
    let rotten = sim.crash();
    rotten.corrupt_log(&sb, end - 1);
    let report = rotten.audit();
    finds(&report, &format!("log block {}", end - 1));
    assert!(report.lost_metadata.is_some());
    assert!(
        report.findings[0]
            .lost
            .contains("slot headers show 14 entries"),
        "{report:#?}"
    );
}

#[test]
fn without_any_base_slot_headers_are_counted() {
    let (sim, store) = filled(true);
    base_headers(store.superblock()).for_each(|at| sim.rot(at + 64));
    let report = sim.audit();
    finds(&report, "checkpoint base");
    // The two that were put again are there twice.
    assert_eq!(report.scanned.unwrap().headers, ENTRIES + 2);
    assert_eq!(report.headers_read, ENTRIES);
}

#[test]
fn a_store_that_cannot_be_opened_is_unusable_and_no_store_is_an_error() {
    let (sim, store) = filled(true);
    let rotten = sim.crash();
    rotten.rot(SUPERBLOCK_A_OFFSET + 100);
    rotten.rot(SUPERBLOCK_B_OFFSET + 100);
    let erased = sim.crash();
    for at in [SUPERBLOCK_A_OFFSET, SUPERBLOCK_B_OFFSET] {
        erased.device.poke(at, &[0; FORMAT_BLOCK]);
    }
    let bytes = store.superblock().runs[0].first_byte as usize + 8192;
    let short = Sim::on(rb_testkit::MemDevice::from_image(
        &sim.device.live_image()[..bytes],
    ));
    for sim in [rotten, erased, short] {
        let report = sim.audit();
        assert_eq!(report.state, AuditState::Unusable, "{report:#?}");
    }
    let nothing = Sim::on(rb_testkit::MemDevice::new(8 << 20));
    let error = audit(nothing.engine(), &AuditOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
}

/// With an incarnation block missing, a second writer could pass for the first.
#[test]
fn openings_that_wrote_and_are_not_named_are_damage() {
    let (sim, _) = filled(true);
    for at in [INCARNATION_A_OFFSET, INCARNATION_B_OFFSET] {
        sim.device.poke(at, &[0; FORMAT_BLOCK]);
    }
    finds(&sim.audit(), "incarnation blocks");
}

/// Crashes at each write of an opening, a close, a start-empty and a format.
#[test]
fn crashes_in_opening_closing_and_formatting_leave_no_damage() {
    type Work = fn(&Sim) -> bool;
    let works: [Work; 4] = [
        |sim| {
            sim.try_open(|_| {})
                .is_ok_and(|store| store.put(b"new", b"v").is_ok())
        },
        |sim| {
            sim.try_open(|_| {})
                .is_ok_and(|store| store.close().is_ok())
        },
        |sim| {
            sim.try_open(|options| options.start_empty = true)
                .is_ok_and(|store| store.close().is_ok())
        },
        |sim| {
            let classes = vec![rb_core::ClassRequest {
                slot_bytes: 4096,
                share: rb_core::Share::Slots(16),
            }];
            let options = FormatOptions {
                key_len_max: 64,
                ..FormatOptions::new(sim.engine(), classes)
            };
            format(&options).is_ok()
        },
    ];
    let (full, _) = filled(false);
    for (number, work) in works.into_iter().enumerate() {
        for cut in 0.. {
            let sim = full.crash();
            sim.device.cut_power_after(cut);
            let done = work(&sim);
            for seed in 0..5 {
                let sim = sim.crash_seeded(seed);
                let options = AuditOptions {
                    deep: true,
                    ..AuditOptions::default()
                };
                let audited = audit(sim.engine(), &options);
                let legal = match &audited {
                    Ok(report) => report.damages == 0,
                    Err(_) => false,
                };
                // A format that did not end leaves no store, and the error reports that.
                let no_store = number == 3
                    && match &audited {
                        Ok(report) => report.state == AuditState::Unusable,
                        Err(error) => matches!(error, OpenError::NotAStore { .. }),
                    };
                assert!(
                    legal || no_store,
                    "work {number}, cut {cut}, seed {seed}: {audited:#?}"
                );
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn every_structure_can_be_inspected() {
    let (sim, store) = filled(true);
    let sb = store.superblock().clone();
    let look = |target: Target| inspect(sim.engine(), EngineKind::Auto, &target).unwrap();
    let one = |target: Target| look(target).remove(0);
    let within = |range: Range<u64>, at: u64| assert!(range.contains(&at), "{range:?} {at}");
    sim.rot(SUPERBLOCK_B_OFFSET + 88);
    let copy = one(Target::Superblock(Some(Side::B)));
    assert!(copy.refused.unwrap().contains("checksum"));
    let field = copy
        .fields
        .iter()
        .find(|field| field.name == "base_a_offset")
        .unwrap();
    assert_eq!((field.offset, field.len), (88, 8));
    assert_ne!(field.value, sb.base_a.offset.to_string());
    assert_eq!(look(Target::Incarnation(None)).len(), 2);
    let base = look(Target::Base(Some(Side::A)));
    assert!(base.iter().all(|part| part.refused.is_none()), "{base:#?}");
    assert!(base.len() > 2 && base.iter().any(|part| part.title.ends_with("section 0")));
    let log = one(Target::Log);
    assert_eq!(log.fields.len(), 1, "the close record: {log:#?}");
    let number: u64 = log.fields[0]
        .name
        .strip_prefix("block ")
        .unwrap()
        .parse()
        .unwrap();
    let block = one(Target::LogBlock(number));
    within(range_of(&sb.log), block.offset);
    assert!(
        block
            .fields
            .iter()
            .any(|field| field.name == "records[0].kind")
    );
    let slot = one(Target::Key(key(3)));
    assert_eq!(slot.offset, slot_of(&sim, 3));
    assert!(
        slot.notes[0].contains("header and payload match"),
        "{slot:#?}"
    );
    sim.rot(slot.offset + BLOCK);
    let slot = one(Target::Key(key(3)));
    assert!(
        slot.notes[0].contains("the payload does not match"),
        "{slot:#?}"
    );
    let free = one(Target::Slot(15));
    assert!(free.notes[0].contains("not live"), "{free:#?}");
    assert!(inspect(sim.engine(), EngineKind::Auto, &Target::Slot(16)).is_err());
    assert!(inspect(sim.engine(), EngineKind::Auto, &Target::Key(b"no".to_vec())).is_err());
}
