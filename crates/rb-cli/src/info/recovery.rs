//! The end of a store's last session, and the result of its recovery.

use rb_core::RecoveryReport;
use serde::Serialize;

use crate::failure::Failure;
use crate::size::counted;

#[derive(Serialize)]
pub(super) struct RecoveryLine {
    shutdown: &'static str,
    clean: bool,
    openings: u32,
    openings_max: u32,
    entries: u64,
    base_sequence: Option<u64>,
    base_damage: Vec<String>,
    one_copy: Vec<String>,
    bad_metadata_offsets_bytes: Vec<u64>,
    bad_slots: usize,
    foreign: Vec<String>,
    log_blocks: u64,
    log_records: u64,
    lost_metadata: Option<String>,
    scanned: Option<SlotScan>,
    base_seconds: f64,
    log_seconds: f64,
    index_seconds: f64,
    recovery_seconds: f64,
}

#[derive(Serialize)]
struct SlotScan {
    scanned_slots: u64,
    headers_verified: u64,
    unreadable_slots: u64,
}

const NOT_CLEAN: &str = "not clean";

/// Names the end of the last session. A store that was formatted and never written to has its first base
/// and no log.
fn shutdown(report: &RecoveryReport) -> &'static str {
    match report {
        report if !report.clean => NOT_CLEAN,
        report if report.base_sequence == Some(1) && report.log_blocks == 0 => "new",
        _ => "clean",
    }
}

impl RecoveryLine {
    pub(super) fn of(report: &RecoveryReport) -> RecoveryLine {
        RecoveryLine {
            shutdown: shutdown(report),
            clean: report.clean,
            openings: report.openings,
            openings_max: RecoveryReport::openings_max(),
            entries: report.entries,
            base_sequence: report.base_sequence,
            base_damage: report.base_damage.clone(),
            one_copy: report.one_copy.clone(),
            bad_metadata_offsets_bytes: report.bad_blocks.clone(),
            bad_slots: report.bad_slots,
            foreign: report.foreign.iter().map(ToString::to_string).collect(),
            log_blocks: report.log_blocks,
            log_records: report.log_records,
            lost_metadata: report.lost_metadata.clone(),
            scanned: report.scanned.map(|scanned| SlotScan {
                scanned_slots: scanned.slots,
                headers_verified: scanned.headers,
                unreadable_slots: scanned.unreadable,
            }),
            base_seconds: report.base_time.as_secs_f64(),
            log_seconds: report.log_time.as_secs_f64(),
            index_seconds: report.index_time.as_secs_f64(),
            recovery_seconds: report.total_time.as_secs_f64(),
        }
    }

    pub(super) fn show(
        &self,
        in_use: bool,
        field: &mut impl FnMut(&str, String) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let hint = match self.shutdown {
            NOT_CLEAN if in_use => " (in use)",
            NOT_CLEAN => {
                " (killed or crashed, or the close record was lost; or a device is in use without a monitor)"
            }
            _ => "",
        };
        field("shutdown", format!("{}{hint}", self.shutdown))?;
        field(
            "openings",
            format!("{} of {} for writing", self.openings, self.openings_max),
        )?;
        let from = match (self.base_sequence, &self.scanned) {
            (Some(base), _) => format!(
                "base {base} and {} ({})",
                counted(self.log_blocks, "log block"),
                counted(self.log_records, "record")
            ),
            (None, Some(_)) => "slot headers, without metadata".to_owned(),
            (None, None) => "nothing, without metadata".to_owned(),
        };
        let entries = counted(self.entries, "entry");
        field(
            "recovery",
            format!("{entries} from {from} in {:.3} s", self.recovery_seconds),
        )?;
        for damage in &self.base_damage {
            field("", format!("damaged: {damage}"))?;
        }
        for damage in &self.one_copy {
            field("", format!("damaged, nothing lost: {damage}"))?;
        }
        if !self.bad_metadata_offsets_bytes.is_empty() || self.bad_slots > 0 {
            let offsets = self
                .bad_metadata_offsets_bytes
                .iter()
                .map(ToString::to_string);
            let at = match self.bad_metadata_offsets_bytes.len() {
                0 => String::new(),
                _ => format!(", at bytes {}", offsets.collect::<Vec<_>>().join(", ")),
            };
            let blocks = counted(self.bad_metadata_offsets_bytes.len() as u64, "block");
            let slots = counted(self.bad_slots as u64, "slot");
            field(
                "bad places",
                format!("{slots} and {blocks} of the metadata{at}"),
            )?;
        }
        for foreign in &self.foreign {
            field("FOREIGN", format!("the device carries {foreign}"))?;
        }
        if let Some(lost) = &self.lost_metadata {
            field("LOST", format!("metadata was lost: {lost}"))?;
        }
        if let Some(scanned) = &self.scanned {
            field(
                "",
                format!(
                    "rebuilt from slot headers: {} of {}, {} unreadable; removed keys may have returned",
                    scanned.headers_verified,
                    counted(scanned.scanned_slots, "slot"),
                    scanned.unreadable_slots
                ),
            )?;
        }
        Ok(())
    }
}
