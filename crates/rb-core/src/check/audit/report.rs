//! What an audit says.

use std::time::Duration;

use rb_format::Superblock;
use rb_index::IndexStats;

use crate::open::recovered::Recovered;
use crate::report::Foreign;
use crate::report::ScanReport;

/// Findings kept in full; further ones are only counted.
const FINDINGS_MAX: usize = 1000;

/// What an audit comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuditState {
    /// Everything is as a writer, or a crash of one, leaves it.
    Clean,
    /// Something is as no crash leaves it. The store opens; what is lost is said.
    Damaged,
    /// The store cannot be opened at all.
    Unusable,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A crash can leave this; nothing needs to be done.
    Remark,
    /// No crash leaves this: the device, or someone who wrote to it, did it.
    Damage,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it weighs.
    pub severity: Severity,
    /// The structure, as in "superblock copy A" or "slot 17".
    pub structure: String,
    /// Its first byte on the device.
    pub offset: u64,
    /// What is wrong.
    pub wrong: String,
    /// What follows from it.
    pub meaning: String,
    /// What is lost by it.
    pub lost: String,
}

/// What an audit found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditReport {
    /// The sum of it.
    pub state: AuditState,
    /// Each finding, in the order of the audit; the first thousand.
    pub findings: Vec<Finding>,
    /// Damage found, that beyond the findings included.
    pub damages: u64,
    /// Remarks made, those beyond the findings included.
    pub remarks: u64,
    /// The superblock that counts; none if neither copy is usable.
    pub superblock: Option<Superblock>,
    /// The newest opening for writing closed the store, or there was none yet.
    pub clean: bool,
    /// Sequence of the base that an opening would load.
    pub base_sequence: Option<u64>,
    /// Log blocks after it.
    pub log_blocks: u64,
    /// Log records after it.
    pub log_records: u64,
    /// Why metadata is lost.
    pub lost_metadata: Option<String>,
    /// What slot headers prove, if metadata is lost. A removed key may have returned.
    pub scanned: Option<ScanReport>,
    /// The index that an opening would make.
    pub index: Option<IndexStats>,
    /// Live entries whose header was read.
    pub headers_read: u64,
    /// Live entries whose payload was read.
    pub payloads_read: u64,
    /// Live entries that did not prove themselves: each is a miss when it is read.
    pub unverified: u64,
    /// What the device carries that the store did not leave there: opening it for writing is refused.
    pub foreign: Vec<Foreign>,
    /// Whether payloads were to be read.
    pub deep: bool,
    /// How long it took.
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

/// A finding without its weight.
pub(super) struct FindingText {
    pub(super) structure: String,
    pub(super) offset: u64,
    pub(super) wrong: String,
    pub(super) meaning: &'static str,
    pub(super) lost: String,
}

/// Nothing is lost, and why.
pub(super) fn nothing(why: &str) -> String {
    format!("nothing: {why}")
}
