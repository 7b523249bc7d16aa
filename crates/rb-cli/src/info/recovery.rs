//! How a store was left, and what its recovery found.

use rb_core::RecoveryReport;
use serde::Serialize;

use crate::failure::Failure;

#[derive(Serialize)]
pub(super) struct Recovery {
    shutdown: &'static str,
    clean: bool,
    openings: u32,
    openings_max: u32,
    entries: u64,
    base_sequence: Option<u64>,
    base_damage: Vec<String>,
    one_copy: Vec<String>,
    bad_metadata_offsets: Vec<u64>,
    bad_slots: usize,
    foreign: Vec<String>,
    log_blocks: u64,
    log_records: u64,
    lost_metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scanned: Option<Scanned>,
    base_seconds: f64,
    log_seconds: f64,
    index_seconds: f64,
    seconds: f64,
}

#[derive(Serialize)]
struct Scanned {
    slots: u64,
    headers: u64,
    unreadable: u64,
}

const NOT_CLEAN: &str = "not clean";

/// How the store was left. One that was only formatted has its first base and no log.
fn shutdown(report: &RecoveryReport) -> &'static str {
    match report {
        report if !report.clean => NOT_CLEAN,
        report if report.base_sequence == Some(1) && report.log_blocks == 0 => "new",
        _ => "clean",
    }
}

impl Recovery {
    pub(super) fn of(report: &RecoveryReport) -> Recovery {
        Recovery {
            shutdown: shutdown(report),
            clean: report.clean,
            openings: report.openings,
            openings_max: RecoveryReport::openings_max(),
            entries: report.entries,
            base_sequence: report.base_sequence,
            base_damage: report.base_damage.clone(),
            one_copy: report.one_copy.clone(),
            bad_metadata_offsets: report.bad_blocks.clone(),
            bad_slots: report.bad_slots,
            foreign: report.foreign.iter().map(ToString::to_string).collect(),
            log_blocks: report.log_blocks,
            log_records: report.log_records,
            lost_metadata: report.lost_metadata.clone(),
            scanned: report.scanned.map(|scanned| Scanned {
                slots: scanned.slots,
                headers: scanned.headers,
                unreadable: scanned.unreadable,
            }),
            base_seconds: report.base_time.as_secs_f64(),
            log_seconds: report.log_time.as_secs_f64(),
            index_seconds: report.index_time.as_secs_f64(),
            seconds: report.total_time.as_secs_f64(),
        }
    }

    pub(super) fn show(
        &self,
        field: &mut impl FnMut(&str, String) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let hint = match self.shutdown {
            NOT_CLEAN => " (killed, crashed, or in use)",
            _ => "",
        };
        field("shutdown", format!("{}{hint}", self.shutdown))?;
        field(
            "openings",
            format!("{} of {} for writing", self.openings, self.openings_max),
        )?;
        let base = self
            .base_sequence
            .map_or("none".to_owned(), |base| base.to_string());
        field(
            "recovery",
            format!(
                "{} entries from base {base} and {} log blocks ({} records) in {:.3} s",
                self.entries, self.log_blocks, self.log_records, self.seconds
            ),
        )?;
        for damage in &self.base_damage {
            field("", format!("damaged: {damage}"))?;
        }
        for damage in &self.one_copy {
            field("", format!("damaged at no cost: {damage}"))?;
        }
        if !self.bad_metadata_offsets.is_empty() || self.bad_slots > 0 {
            let offsets = self.bad_metadata_offsets.iter().map(ToString::to_string);
            let at = match self.bad_metadata_offsets.len() {
                0 => String::new(),
                _ => format!(", at bytes {}", offsets.collect::<Vec<_>>().join(", ")),
            };
            let (blocks, slots) = (self.bad_metadata_offsets.len(), self.bad_slots);
            field(
                "bad places",
                format!("{slots} slots and {blocks} blocks of the metadata{at}"),
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
                    "rebuilt from slot headers: {} of {} slots, {} unreadable; removed keys may have returned",
                    scanned.headers, scanned.slots, scanned.unreadable
                ),
            )?;
        }
        Ok(())
    }
}
