//! What `rb fsck` says.

use std::path::Path;

use rb_core::{AuditReport, AuditState, Finding, RepairReport, Severity};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::Output;

#[derive(Serialize)]
pub(super) struct Report {
    path: String,
    state: &'static str,
    uuid: Option<String>,
    deep: bool,
    shutdown_clean: bool,
    damages: u64,
    remarks: u64,
    findings: Vec<Shown>,
    slots: Slots,
    entries: u64,
    headers_read: u64,
    payloads_read: u64,
    unverified: u64,
    base_sequence: Option<u64>,
    log_blocks: u64,
    log_records: u64,
    lost_metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers_verified: Option<u64>,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<Repair>,
}

#[derive(Serialize)]
struct Shown {
    severity: &'static str,
    structure: String,
    offset: u64,
    wrong: String,
    meaning: String,
    lost: String,
}

#[derive(Serialize, Default)]
struct Slots {
    all: u64,
    free: u64,
    live: u64,
    retired: u64,
    bad: u64,
}

/// What was done about it. The rest of the report is that of the store afterwards.
#[derive(Serialize)]
struct Repair {
    done: bool,
    found: &'static str,
    findings: Vec<Shown>,
    dropped: u64,
    rebuilt: bool,
}

impl Report {
    pub(super) fn of(path: &Path, report: &AuditReport, repaired: Option<&RepairReport>) -> Report {
        let mut slots = Slots::default();
        for class in report.index.iter().flat_map(|index| &index.classes) {
            slots.all += class.capacity;
            slots.free += class.free;
            slots.live += class.live;
            slots.retired += class.retired;
            slots.bad += class.bad;
        }
        Report {
            path: path.display().to_string(),
            state: name(report.state),
            uuid: report
                .superblock
                .as_ref()
                .map(|sb| sb.identity.uuid.to_string()),
            deep: report.deep,
            shutdown_clean: report.clean,
            damages: report.damages,
            remarks: report.remarks,
            findings: report.findings.iter().map(Shown::of).collect(),
            slots,
            entries: report.index.as_ref().map_or(0, |index| index.entries),
            headers_read: report.headers_read,
            payloads_read: report.payloads_read,
            unverified: report.unverified,
            base_sequence: report.base_sequence,
            log_blocks: report.log_blocks,
            log_records: report.log_records,
            lost_metadata: report.lost_metadata.clone(),
            headers_verified: report.scanned.map(|scanned| scanned.headers),
            seconds: report.time.as_secs_f64(),
            repair: repaired.map(Repair::of),
        }
    }

    pub(super) fn show(&self, output: &mut Output) -> Result<(), Failure> {
        if let Some(repair) = &self.repair {
            repair.show(output)?;
        }
        for finding in &self.findings {
            finding.show(output)?;
        }
        let unsaid = (self.damages + self.remarks).saturating_sub(self.findings.len() as u64);
        if unsaid > 0 {
            output.line(format!("… and {unsaid} more findings"))?;
        }
        if self.uuid.is_some() && self.state != name(AuditState::Unusable) {
            let slots = &self.slots;
            output.line(format!(
                "slots: {} live + {} free + {} retired + {} bad = {}; shutdown {}",
                slots.live,
                slots.free,
                slots.retired,
                slots.bad,
                slots.all,
                if self.shutdown_clean {
                    "clean"
                } else {
                    "not clean"
                }
            ))?;
            output.line(format!(
                "read: {} headers and {} payloads of {} entries, {} log blocks, in {:.3} s",
                self.headers_read, self.payloads_read, self.entries, self.log_blocks, self.seconds
            ))?;
        }
        output.line(format!(
            "{}: {} ({} damaged, {} remarks, {} entries unverified)",
            self.path, self.state, self.damages, self.remarks, self.unverified
        ))
    }
}

impl Repair {
    fn of(done: &RepairReport) -> Repair {
        Repair {
            done: done.after.is_some(),
            found: name(done.before.state),
            findings: done.before.findings.iter().map(Shown::of).collect(),
            dropped: if done.after.is_some() {
                done.dropped
            } else {
                0
            },
            rebuilt: done.after.is_some() && done.rebuilt,
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        if !self.done {
            return output.line(format!("nothing was repaired: the store is {}", self.found));
        }
        for finding in &self.findings {
            finding.show(output)?;
        }
        let rebuilt = match self.rebuilt {
            true => "metadata was rebuilt from slot headers (a removed key may have returned); ",
            false => "",
        };
        output.line(format!(
            "repaired: {rebuilt}{} entries dropped. Now:",
            self.dropped
        ))
    }
}

impl Shown {
    fn of(finding: &Finding) -> Shown {
        Shown {
            severity: match finding.severity {
                Severity::Remark => "remark",
                Severity::Damage => "damage",
            },
            structure: finding.structure.clone(),
            offset: finding.offset,
            wrong: finding.wrong.clone(),
            meaning: finding.meaning.clone(),
            lost: finding.lost.clone(),
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        output.line(format!(
            "{}: {} at byte {}: {}",
            self.severity, self.structure, self.offset, self.wrong
        ))?;
        output.line(format!("  means: {}", self.meaning))?;
        output.line(format!("  lost: {}", self.lost))
    }
}

const fn name(state: AuditState) -> &'static str {
    match state {
        AuditState::Clean => "clean",
        AuditState::Damaged => "damaged",
        AuditState::Unusable => "unusable",
    }
}
