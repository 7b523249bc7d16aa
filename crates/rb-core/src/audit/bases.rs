//! The two checkpoint bases and the log: recovery needs one base and the log after it; the audit also
//! looks at what recovery had no need of.

use std::collections::BTreeMap;

use rb_format::{BaseHeader, Corruption, FORMAT_BLOCK, LogBlock, Record, log_block_offset};
use rb_index::Index;

use super::Audit;
use super::fixed::{is_zero, severity};
use super::report::{Severity, Words, nothing};
use crate::base_load::{FoundBase, read_headers};
use crate::commit::words;
use crate::error::{Error, OpenError};
use crate::recover::{Recovered, from_base, no_base};
use crate::replay::each_block_of_ring;

const NAMES: [&str; 2] = ["A", "B"];
const OTHER_SERVES: &str = "the other base and the log after it hold everything";
const ONE_LESS: &str =
    "there is one way less to recover until the next checkpoint, which writes it anew";

impl Audit<'_> {
    /// Says that metadata is lost, if it is.
    pub(super) fn lost(&mut self, recovered: &Recovered) {
        let report = &recovered.report;
        let Some(why) = &report.lost_metadata else {
            return;
        };
        let proven = report.scanned.map_or(0, |scanned| scanned.headers);
        let (structure, offset) = match recovered.lost_block {
            Some(block) => {
                let offset = log_block_offset(&self.superblock.log, block);
                (format!("log block {block}"), offset)
            }
            None => (
                "checkpoint bases A and B".into(),
                self.superblock.base_a.offset,
            ),
        };
        self.report.damage(Words {
            structure,
            offset,
            wrong: why.clone(),
            meaning: "metadata is lost: the headers of the slots decide what is there, and a removed key may return",
            lost: format!(
                "all metadata; slot headers prove {proven} entries, of which {} are the newest of their keys",
                report.entries
            ),
        });
    }

    /// Looks at both bases, whether or not they were needed.
    pub(super) fn bases(&mut self, recovered: &Recovered, shards: u32) -> Result<(), OpenError> {
        let headers = read_headers(&mut self.io, self.superblock).map_err(no_base)?;
        let newest = headers
            .found
            .first()
            .map_or(0, |base| base.header.base_sequence);
        for (region, name) in NAMES.into_iter().enumerate() {
            let found = headers.found.iter().find(|base| base.region == region);
            let judged = match found {
                Some(base) => self.whole_header(recovered, shards, base, &headers.found)?,
                None => self.no_header(region, newest)?,
            };
            let Some((severity, wrong)) = judged else {
                continue;
            };
            let lost = match recovered.report.lost_metadata {
                None => nothing(OTHER_SERVES),
                Some(_) => "what only it and the log knew".to_owned(),
            };
            self.report.add(
                severity,
                Words {
                    structure: format!("checkpoint base {name}"),
                    offset: self.region_offset(region),
                    wrong,
                    meaning: ONE_LESS,
                    lost,
                },
            );
        }
        Ok(())
    }

    fn region_offset(&self, region: usize) -> u64 {
        [&self.superblock.base_a, &self.superblock.base_b][region].offset
    }

    /// Judges a base whose header decodes.
    fn whole_header(
        &mut self,
        recovered: &Recovered,
        shards: u32,
        base: &FoundBase,
        found: &[FoundBase],
    ) -> Result<Option<(Severity, String)>, OpenError> {
        let used_region = recovered.newest.as_ref().map(|used| used.region);
        let used = found.iter().find(|used| Some(used.region) == used_region);
        if used_region == Some(base.region) {
            return Ok(None);
        }
        let (sb, geometry) = (self.superblock, self.geometry);
        let loaded = from_base(&mut self.io, sb, geometry, shards, base)?;
        // The newest, and yet it did not serve: a header is written when all else is there.
        let is_newest = found
            .first()
            .is_some_and(|newest| newest.region == base.region);
        Ok(match loaded {
            Err(why) => Some((severity(!is_newest && !self.report.clean), why)),
            // Its log is said to be damaged already.
            Ok(_) if used.is_none() => None,
            Ok((other, damage)) => {
                let short = other.end.sequence != recovered.end.sequence;
                let why = damage.map(|damage| damage.why).or(short.then(|| {
                    format!(
                        "the log after it ends at block {} already",
                        other.end.sequence
                    )
                }));
                // After a loss the log began anew, and what is older than that cannot reach it.
                let began_anew = used.is_some_and(|used| {
                    let position = used.header.position;
                    position.anchor == 0 && other.end.sequence <= position.sequence
                });
                why.map(|why| (severity(began_anew), why))
            }
        })
    }

    /// Judges a base whose header does not decode.
    fn no_header(
        &mut self,
        region: usize,
        newest: u64,
    ) -> Result<Option<(Severity, String)>, OpenError> {
        let identity = self.superblock.identity;
        let block = match self.io.read(self.region_offset(region), FORMAT_BLOCK) {
            Ok(block) => block,
            Err(error) => return self.unreadable(&error).map(Some),
        };
        let bytes = &block[..FORMAT_BLOCK];
        let Err(why) = BaseHeader::decode(bytes, &identity) else {
            // It could not be read a moment ago.
            return Ok(Some((Severity::Damage, "it is read at times only".into())));
        };
        let by_crash = match why {
            // A "start empty" writes the first base of the next epoch before the superblock.
            Corruption::WrongEpoch { found, .. } if found == identity.epoch + 1 => true,
            // The second base of an epoch goes to the other region, and that is never cleared again.
            Corruption::WrongEpoch { found, .. } if found < identity.epoch && newest <= 1 => {
                return Ok(None);
            }
            Corruption::WrongEpoch { .. } | Corruption::WrongStore { .. } => false,
            // As a format leaves it.
            _ if is_zero(bytes) && newest <= 1 => return Ok(None),
            _ if is_zero(bytes) => false,
            _ => !self.report.clean && newest > 0 && BaseHeader::may_be_torn(bytes, &identity),
        };
        Ok(Some((severity(by_crash), why.to_string())))
    }

    fn unreadable(&self, error: &Error) -> Result<(Severity, String), OpenError> {
        match error.is_answer_for_place() {
            true => Ok((Severity::Damage, words(error))),
            false => Err(OpenError::Io {
                what: "reading a checkpoint base",
                source: error.clone(),
            }),
        }
    }

    /// The last opening before `closer` of which the ring shows that it did not close the store: its last
    /// block is no close record, or it has none at all.
    pub(super) fn last_crash(&mut self, closer: u32) -> Result<Option<u32>, OpenError> {
        let mut ends: BTreeMap<u32, (u64, bool)> = BTreeMap::new();
        let read = each_block_of_ring(&mut self.io, self.superblock, |block| {
            let end = ends.entry(block.incarnation).or_default();
            if block.sequence >= end.0 {
                *end = (
                    block.sequence,
                    matches!(block.records().last(), Some(Record::Close)),
                );
            }
        });
        read.map_err(|source| OpenError::Io {
            what: "reading the delta log",
            source,
        })?;
        let oldest = ends.keys().next().copied().unwrap_or(closer);
        let closed = |opening: u32| ends.get(&opening).is_some_and(|end| end.1);
        Ok((oldest..closer).rev().find(|opening| !closed(*opening)))
    }

    /// Remarks on a torn block at the end of the log.
    pub(super) fn log_end(&mut self, recovered: &Recovered) -> Result<(), OpenError> {
        if recovered.report.lost_metadata.is_some() {
            return Ok(());
        }
        let (end, log) = (recovered.end.sequence, &self.superblock.log);
        let offset = log_block_offset(log, end);
        // An unreadable block is damage, which recovery has found.
        let Ok(block) = self.io.read(offset, FORMAT_BLOCK) else {
            return Ok(());
        };
        let decoded = LogBlock::decode(&block[..FORMAT_BLOCK], &self.superblock.identity);
        if let Err(why @ Corruption::Checksum { .. }) = decoded {
            self.report.remark(Words {
                structure: format!("log block {end}"),
                offset,
                wrong: why.to_string(),
                meaning: "the log ends before it: a crash in a commit, or rot in the very last commit",
                lost: "what that commit held, of which nobody was told that it is durable unless it rotted".into(),
            });
        }
        Ok(())
    }

    /// Checks that every slot is in exactly one state, and every entry in a slot that it belongs in.
    pub(super) fn accounting(&mut self, index: &Index) {
        let slots = u64::from(self.geometry.slots());
        let counted: u64 = index
            .stats()
            .classes
            .iter()
            .map(|class| class.capacity)
            .sum();
        let short = (counted != slots)
            .then(|| format!("free, live, retired and bad slots are {counted} of {slots}"));
        if let Some(why) = index.audit().err().or(short) {
            self.report.damage(Words {
                structure: "index".into(),
                offset: self.superblock.base_a.offset,
                wrong: why,
                meaning: "the slots do not add up: this is a fault of the program, keep the store's bytes and report it",
                lost: "unknown".into(),
            });
        }
    }
}
