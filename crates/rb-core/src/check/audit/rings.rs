//! Compares the two rings of the log, of which recovery reads ring 2 only where ring 1 does not
//! continue, and checks the order of the records.

use std::collections::BTreeMap;
use std::ops::Range;

use rb_format::{Corruption, FORMAT_BLOCK, LogBlock, LogPosition, Record};

use super::fixed::severity;
use super::report::{FindingText, nothing};
use super::shared::Audit;
use crate::error::error_chain;
use crate::error::{Error, OpenError};
use crate::io::headers::read_headers;
use crate::log::chain::Chain;
use crate::log::order::LogOrder;
use crate::log::reader::LogReader;
use crate::open::recover::no_base;
use crate::open::recovered::Recovered;
use crate::open::replay::each_block_of_rings;

/// Returns the pronoun for one block or several.
pub(super) fn it_or_them(is_one: bool) -> &'static str {
    match is_one {
        true => "it",
        false => "them",
    }
}

fn failed(source: Error) -> OpenError {
    OpenError::Io {
        what: "reading the delta log",
        source,
    }
}

impl Audit<'_> {
    /// Compares the rings and checks the log's order, starting from the oldest base that still
    /// chains to the end.
    pub(super) fn rings(&mut self, recovered: &Recovered) -> Result<(), OpenError> {
        if recovered.report.lost_metadata.is_some() {
            return Ok(());
        }
        let headers = read_headers(&mut self.io, self.superblock).map_err(no_base)?;
        let mut starts: Vec<LogPosition> = headers
            .found
            .iter()
            .map(|base| base.header.position)
            .collect();
        starts.sort_unstable_by_key(|start| start.sequence);
        for start in starts {
            let chain = self.walk(start, recovered).map_err(failed)?;
            if chain.at == recovered.end {
                let Chain { copies, order, .. } = chain;
                for (ring, ranges) in copies.lacking.into_iter().enumerate() {
                    for range in ranges {
                        // Blocks up to `durable` were flushed; a crash may have cut later ones from
                        // one ring.
                        let split = (copies.durable + 1).clamp(range.start, range.end);
                        self.in_one_ring(ring, range.start..split, false);
                        self.in_one_ring(ring, split..range.end, true);
                    }
                }
                self.order(&order.unwrap_or_default());
                return Ok(());
            }
        }
        Ok(())
    }

    /// Follows both rings from `start` to the end of the log.
    fn walk<'r>(&mut self, start: LogPosition, recovered: &'r Recovered) -> Result<Chain<'r>, Error>
    where
        Self: 'r,
    {
        let mut chain = Chain::new(self.superblock, start, &recovered.refuted);
        chain.order = Some(LogOrder::default());
        let mut reader = LogReader::new(self.superblock);
        let limit = recovered
            .end
            .sequence
            .min(start.sequence + self.superblock.log_blocks());
        loop {
            let first = chain.at.sequence;
            let ring_1 = reader.read(&mut self.io, 0, first, limit)?;
            let ring_2 = reader.read(&mut self.io, 1, first, limit)?;
            // Both reads are empty once the limit is reached.
            let mut whole = !ring_1.is_empty();
            for (ring_1, ring_2) in ring_1.iter().zip(&ring_2) {
                let mut pairs = ring_1.blocks().zip(ring_2.blocks());
                whole = whole && pairs.all(|(first, second)| chain.take_either(first, second));
            }
            if !whole {
                return Ok(chain);
            }
        }
    }

    /// Reports blocks that only the other ring has.
    fn in_one_ring(&mut self, ring: usize, blocks: Range<u64>, by_crash: bool) {
        let (first, last) = match blocks.clone().next_back() {
            Some(last) => (blocks.start, last),
            None => return,
        };
        let structure = match first == last {
            true => format!("log block {first}"),
            false => format!("log blocks {first} to {last}"),
        };
        let (here, other) = (ring + 1, 2 - ring);
        let meaning = match by_crash {
            true => {
                "a crash in the last commit can leave that; the next opening for writing writes it again"
            }
            false => {
                "one more bad block in the same place of the other ring would be a loss, until two checkpoints later"
            }
        };
        self.report.add(
            severity(by_crash),
            FindingText {
                structure,
                offset: self.superblock.log_block_offsets(first)[ring],
                wrong: format!("damaged or missing in ring {here} of the log"),
                meaning,
                lost: nothing(&format!("ring {other} has {}", it_or_them(first == last))),
            },
        );
    }

    fn order(&mut self, order: &LogOrder) {
        for violation in &order.violations {
            self.report.damage(FindingText {
                structure: format!("log block {}", violation.block),
                offset: self.superblock.log_block_offsets(violation.block)[0],
                wrong: violation.why.clone(),
                meaning: "the log is out of order: this is a fault of the program that wrote it, keep the store's bytes and report it",
                lost: "possibly the value of the later record, though it was acknowledged".into(),
            });
        }
    }

    /// Returns the last session before `closer` that did not close the store, as far as the rings
    /// show: its last block is not a close record, or it has none.
    pub(super) fn last_crash(&mut self, closer: u32) -> Result<Option<u32>, OpenError> {
        let mut ends: BTreeMap<u32, (u64, bool)> = BTreeMap::new();
        let read = each_block_of_rings(&mut self.io, self.superblock, |block| {
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

    /// Checks the places where the next block goes.
    pub(super) fn log_end(&mut self, recovered: &Recovered) -> Result<(), OpenError> {
        if recovered.report.lost_metadata.is_some() {
            return Ok(());
        }
        let end = recovered.end.sequence;
        let offsets = self.superblock.log_block_offsets(end);
        let mut said = false;
        for (ring, offset) in offsets.into_iter().enumerate() {
            let block = match self.io.read(offset, FORMAT_BLOCK) {
                Ok(block) => block,
                Err(error) if error.is_damage() => {
                    self.report.damage(FindingText {
                        structure: format!("log block {end}"),
                        offset,
                        wrong: format!("ring {}: {}", ring + 1, error_chain(&error)),
                        meaning: "the log ends before it, and the next commit writes it",
                        lost: nothing("the other ring shows that the log ends there"),
                    });
                    continue;
                }
                Err(source) => return Err(failed(source)),
            };
            let decoded = LogBlock::decode(&block[..FORMAT_BLOCK], &self.superblock.identity);
            if let (Err(why @ Corruption::Checksum { .. }), false) = (decoded, said) {
                said = true;
                self.report.remark(FindingText {
                    structure: format!("log block {end}"),
                    offset,
                    wrong: format!("ring {}: {}", ring + 1, why.reason()),
                    meaning: "the log ends before it: a crash in a commit, or rot in both copies of the very last commit",
                    lost: "what that commit held, which was not acknowledged as durable unless it rotted".into(),
                });
            }
        }
        Ok(())
    }
}
