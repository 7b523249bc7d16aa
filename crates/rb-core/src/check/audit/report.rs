//! The report of an audit.

use std::time::Duration;

use rb_format::Superblock;
use rb_index::IndexStats;

use crate::open::recovered::Recovered;
use crate::report::Foreign;
use crate::report::ScanReport;

/// Findings kept in full; further ones are only counted.
const FINDINGS_MAX: usize = 1000;

/// Overall result of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditState {
    /// Everything is in a state that a writer, or a crash of one, leaves.
    Clean,
    /// Something is in a state that no crash leaves. The store opens; the findings list what is
    /// lost.
    Damaged,
    /// The store cannot be opened at all.
    Unusable,
}

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A crash can leave this; nothing needs to be done.
    Remark,
    /// No crash leaves this: the device caused it, or a program that wrote to it.
    Damage,
}

/// A single finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Severity of the finding.
    pub severity: Severity,
    /// The affected structure, such as "superblock copy A" or "slot 17".
    pub structure: String,
    /// Byte offset of the structure on the device.
    pub offset: u64,
    /// Description of the fault.
    pub wrong: String,
    /// Consequence for the store.
    pub meaning: String,
    /// Data lost by the fault.
    pub lost: String,
}

/// Result of an audit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditReport {
    /// Overall result.
    pub state: AuditState,
    /// The first 1000 findings, in the order of the audit.
    pub findings: Vec<Finding>,
    /// Number of damages, including those beyond `findings`.
    pub damages: u64,
    /// Number of remarks, including those beyond `findings`.
    pub remarks: u64,
    /// The superblock in force; `None` if neither copy is usable.
    pub superblock: Option<Superblock>,
    /// True if the newest writing session closed the store, or there was none yet.
    pub clean: bool,
    /// Sequence of the base that an open would load.
    pub base_sequence: Option<u64>,
    /// Number of log blocks after the base.
    pub log_blocks: u64,
    /// Number of log records after the base.
    pub log_records: u64,
    /// Reason why metadata is lost; `None` if it is not.
    pub lost_metadata: Option<String>,
    /// Result of scanning the slot headers, if metadata is lost. Removed keys may have returned.
    pub scanned: Option<ScanReport>,
    /// Statistics of the index that an open would build.
    pub index: Option<IndexStats>,
    /// Number of live entries whose header was read.
    pub headers_read: u64,
    /// Number of live entries whose payload was read.
    pub payloads_read: u64,
    /// Number of live entries that failed verification: each is a miss when it is read.
    pub unverified: u64,
    /// Data of another program on the device; opening the store for writing is refused.
    pub foreign: Vec<Foreign>,
    /// True if the audit was asked to read payloads.
    pub deep: bool,
    /// Duration of the audit.
    pub time: Duration,
}

impl AuditReport {
    pub(super) fn new(superblock: Option<Superblock>, deep: bool) -> AuditReport {
        AuditReport {
            state: AuditState::Clean,
            findings: Vec::new(),
            damages: 0,
            remarks: 0,
            superblock,
            clean: false,
            base_sequence: None,
            log_blocks: 0,
            log_records: 0,
            lost_metadata: None,
            scanned: None,
            index: None,
            headers_read: 0,
            payloads_read: 0,
            unverified: 0,
            foreign: Vec::new(),
            deep,
            time: Duration::ZERO,
        }
    }

    pub(super) fn recovered(&mut self, recovered: &Recovered, clean: bool) {
        let report = &recovered.report;
        self.clean = clean;
        self.base_sequence = report.base_sequence;
        self.log_blocks = report.log_blocks;
        self.log_records = report.log_records;
        self.lost_metadata.clone_from(&report.lost_metadata);
        self.scanned = report.scanned;
        self.index = Some(recovered.index.stats());
    }

    pub(super) fn remark(&mut self, finding: FindingText) {
        self.add(Severity::Remark, finding);
    }

    pub(super) fn damage(&mut self, finding: FindingText) {
        self.add(Severity::Damage, finding);
    }

    pub(super) fn add(&mut self, severity: Severity, words: FindingText) {
        match severity {
            Severity::Remark => self.remarks += 1,
            Severity::Damage => {
                self.damages += 1;
                self.state = self.state.max(AuditState::Damaged);
            }
        }
        if self.findings.len() < FINDINGS_MAX {
            let FindingText {
                structure,
                offset,
                wrong,
                meaning,
                lost,
            } = words;
            self.findings.push(Finding {
                severity,
                structure,
                offset,
                wrong,
                meaning: meaning.to_owned(),
                lost,
            });
        }
    }
}

/// A finding without its severity.
pub(super) struct FindingText {
    pub(super) structure: String,
    pub(super) offset: u64,
    pub(super) wrong: String,
    pub(super) meaning: &'static str,
    pub(super) lost: String,
}

/// Text for a finding that loses nothing, with the reason.
pub(super) fn nothing(why: &str) -> String {
    format!("nothing: {why}")
}
