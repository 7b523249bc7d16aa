//! The report of `rb fsck`.

use std::path::Path;

use rb_core::{AuditReport, AuditState, Finding, RepairReport, Severity};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;
use crate::size::counted;

#[derive(Serialize)]
pub(super) struct FsckReport {
    path: String,
    state: &'static str,
    uuid: Option<String>,
    deep: bool,
    clean: bool,
    damages: u64,
    remarks: u64,
    findings: Vec<ShownFinding>,
    #[serde(flatten)]
    slots: SlotCounts,
    entries: u64,
    headers_read: u64,
    payloads_read: u64,
    unverified_entries: u64,
    base_sequence: Option<u64>,
    log_blocks: u64,
    log_records: u64,
    lost_metadata: Option<String>,
    headers_verified: Option<u64>,
    seconds: f64,
    repair: Option<RepairSummary>,
}

#[derive(Serialize)]
struct ShownFinding {
    severity: &'static str,
    structure: String,
    offset_bytes: u64,
    wrong: String,
    meaning: String,
    lost: String,
}

#[derive(Serialize, Default)]
struct SlotCounts {
    slots: u64,
    live_slots: u64,
    free_slots: u64,
    retired_slots: u64,
    bad_slots: u64,
}

/// Findings and actions of the repair. The rest of the report describes the store after the repair.
#[derive(Serialize)]
struct RepairSummary {
    repaired: bool,
    state_before: &'static str,
    findings: Vec<ShownFinding>,
    dropped_entries: u64,
    rebuilt: bool,
}

impl FsckReport {
    pub(super) fn of(
        path: &Path,
        report: &AuditReport,
        repaired: Option<&RepairReport>,
    ) -> FsckReport {
        let mut slots = SlotCounts::default();
        for class in report.index.iter().flat_map(|index| &index.classes) {
            slots.slots += class.capacity;
            slots.live_slots += class.live;
            slots.free_slots += class.free;
            slots.retired_slots += class.retired;
            slots.bad_slots += class.bad;
        }
        FsckReport {
            path: path.display().to_string(),
            state: name(report.state),
            uuid: report
                .superblock
                .as_ref()
                .map(|sb| sb.identity.uuid.to_string()),
            deep: report.deep,
            clean: report.clean,
            damages: report.damages,
            remarks: report.remarks,
            findings: report.findings.iter().map(ShownFinding::of).collect(),
            slots,
            entries: report.index.as_ref().map_or(0, |index| index.entries),
            headers_read: report.headers_read,
            payloads_read: report.payloads_read,
            unverified_entries: report.unverified,
            base_sequence: report.base_sequence,
            log_blocks: report.log_blocks,
            log_records: report.log_records,
            lost_metadata: report.lost_metadata.clone(),
            headers_verified: report.scanned.map(|scanned| scanned.headers),
            seconds: report.time.as_secs_f64(),
            repair: repaired.map(RepairSummary::of),
        }
    }

    pub(super) fn show(&self, output: &mut Output) -> Result<(), Failure> {
        if let Some(repair) = &self.repair {
            repair.show(output)?;
        }
        ShownFinding::show_all(&self.findings, output)?;
        let hidden = (self.damages + self.remarks).saturating_sub(self.findings.len() as u64);
        if hidden > 0 {
            output.line(format!("… and {} not shown", counted(hidden, "finding")))?;
        }
        if self.uuid.is_some() && self.state != name(AuditState::Unusable) {
            let slots = &self.slots;
            output.line(format!(
                "slots: {} live + {} free + {} retired + {} bad = {}; shutdown {}",
                slots.live_slots,
                slots.free_slots,
                slots.retired_slots,
                slots.bad_slots,
                slots.slots,
                if self.clean { "clean" } else { "not clean" }
            ))?;
            output.line(format!(
                "read: {} and {} of {}, {}, in {:.3} s",
                counted(self.headers_read, "header"),
                counted(self.payloads_read, "payload"),
                counted(self.entries, "entry"),
                counted(self.log_blocks, "log block"),
                self.seconds
            ))?;
        }
        let unread = match self.payloads_read < self.entries && !self.deep {
            true => "; payloads were not read, which --deep does",
            false => "",
        };
        output.line(format!(
            "{}: {} ({} damaged, {}, {} unverified{unread})",
            self.path,
            self.state,
            self.damages,
            counted(self.remarks, "remark"),
            counted(self.unverified_entries, "entry")
        ))
    }
}

impl RepairSummary {
    fn of(done: &RepairReport) -> RepairSummary {
        RepairSummary {
            repaired: done.after.is_some(),
            state_before: name(done.before.state),
            findings: done.before.findings.iter().map(ShownFinding::of).collect(),
            dropped_entries: if done.after.is_some() {
                done.dropped
            } else {
                0
            },
            rebuilt: done.after.is_some() && done.rebuilt,
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        if !self.repaired {
            return output.line(format!(
                "nothing was repaired: the store is {}",
                self.state_before
            ));
        }
        ShownFinding::show_all(&self.findings, output)?;
        let rebuilt = match self.rebuilt {
            true => "metadata was rebuilt from slot headers (a removed key may have returned); ",
            false => "",
        };
        output.line(format!(
            "repaired: {rebuilt}{} dropped. Now:",
            counted(self.dropped_entries, "entry")
        ))
    }
}

impl ShownFinding {
    fn of(finding: &Finding) -> ShownFinding {
        ShownFinding {
            severity: match finding.severity {
                Severity::Remark => "remark",
                Severity::Damage => "damage",
            },
            structure: finding.structure.clone(),
            offset_bytes: finding.offset,
            wrong: finding.wrong.clone(),
            meaning: finding.meaning.clone(),
            lost: finding.lost.clone(),
        }
    }

    /// Shows findings. Neighbours share the lines that they have in common, as the slots of a bad region do.
    fn show_all(findings: &[ShownFinding], output: &mut Output) -> Result<(), Failure> {
        for group in findings.chunk_by(|a, b| a.meaning == b.meaning) {
            let one_loss = group.iter().all(|finding| finding.lost == group[0].lost);
            for finding in group {
                output.line(format!(
                    "{}: {} at byte {}: {}",
                    finding.severity, finding.structure, finding.offset_bytes, finding.wrong
                ))?;
                if !one_loss {
                    output.line(format!("  lost: {}", finding.lost))?;
                }
            }
            output.line(format!("  means: {}", group[0].meaning))?;
            if one_loss {
                output.line(format!("  lost: {}", group[0].lost))?;
            }
        }
        Ok(())
    }
}

const fn name(state: AuditState) -> &'static str {
    match state {
        AuditState::Clean => "clean",
        AuditState::Damaged => "damaged",
        AuditState::Unusable => "unusable",
    }
}
