//! Audits the fixed blocks: superblock copies and incarnation blocks.

use rb_format::{Corruption, FORMAT_BLOCK, INCARNATION_A_OFFSET, Incarnation, Superblock};

use super::report::{AuditReport, AuditState, FindingText, Severity, nothing};
use super::shared::Audit;
use crate::error::OpenError;
use crate::error::error_chain;
use crate::io::block_at::BlockAt;
use crate::io::whose;
use crate::log::incarnations::{Pair, newest_number};
use crate::open::cut;
use crate::open::recovered::Recovered;
use crate::report::{Foreign, RecoveryReport};

const NAMES: [&str; 2] = ["A", "B"];
const NEXT_OPENING: &str = "the next opening for writing rewrites it";
const LEFT_ALONE: &str = "no crash leaves that, so it is left alone and the other copy serves; `rb fsck --repair --force` rewrites it";
const FORMAT: &str = "the store does not open; `rb format --yes --force` makes a new, empty one";
const DISTINGUISHES: &str = "it distinguishes writers; the next openings for writing rewrite it";
const BOTH_GONE: &str = "another program may have written there, so openings for writing are refused; `rb fsck --repair --force` makes the blocks again";

/// Builds the report on a store without a usable superblock; returns the error if it is no store at
/// all.
pub(super) fn without_superblock(
    copies: &[BlockAt<Superblock>; 2],
    why: OpenError,
) -> Result<AuditReport, OpenError> {
    let lost = "all metadata, and with it every entry".to_owned();
    let mut report = AuditReport::new(None, false);
    match &why {
        OpenError::Superblock {
            copies: refused,
            signature,
            ..
        } => {
            if let Some(signature) = signature {
                report.damage(carries(signature));
            }
            for (copy, (name, why)) in copies.iter().zip(NAMES.iter().zip(refused.iter())) {
                report.damage(FindingText {
                    structure: format!("superblock copy {name}"),
                    offset: copy.offset,
                    wrong: why.reason(),
                    meaning: FORMAT,
                    lost: lost.clone(),
                });
            }
        }
        OpenError::Truncated { needed, found, .. } => report.damage(FindingText {
            structure: "device".into(),
            offset: *found,
            wrong: format!("the layout needs {needed} bytes, the device has {found}"),
            meaning: "the store does not open until all of it is there",
            lost: format!(
                "what lies in the last {} bytes of the layout",
                needed - found
            ),
        }),
        OpenError::NotAStore {
            signature,
            trace: Some(offset),
            ..
        } => {
            let meaning = match signature {
                Some(_) => "they were erased; `rb format --yes --force` makes a new, empty store",
                None => {
                    "they were erased, or a format did not end; `rb format --yes` makes a new, empty store"
                }
            };
            if let Some(signature) = signature {
                report.damage(carries(signature));
            }
            report.damage(FindingText {
                structure: "superblock copies A and B".into(),
                offset: 0,
                wrong: format!("neither is there, yet a structure of a store is at byte {offset}"),
                meaning,
                lost,
            });
        }
        _ => return Err(why),
    }
    report.state = AuditState::Unusable;
    Ok(report)
}

impl Audit<'_> {
    /// Compares the superblock copies with the one in force. `opened` is true if a session of this
    /// epoch has written to the store, and so has repaired both copies or failed to write one.
    pub(super) fn copies(&mut self, copies: &[BlockAt<Superblock>; 2], opened: bool) {
        let newest = self.superblock;
        let neither_is_newest = copies
            .iter()
            .all(|copy| copy.decoded.as_ref() != Ok(newest));
        for (copy, name) in copies.iter().zip(NAMES) {
            let meaning = match whose::is_to_repair(copy, newest) {
                true => NEXT_OPENING,
                false => LEFT_ALONE,
            };
            let (severity, wrong) = match &copy.decoded {
                Ok(found) if found == newest => continue,
                // B is written first, so a crash between the two writes leaves an older A. A crash
                // during a start-empty leaves both older.
                Ok(found) => {
                    let by_crash = !opened && (name == "A" || neither_is_newest);
                    let wrong = format!(
                        "it is of sequence {}, the other copy of {}",
                        found.sequence, newest.sequence
                    );
                    (severity(by_crash), wrong)
                }
                Err(why) => {
                    let bytes = copy.bytes.as_deref();
                    let by_crash = bytes.is_some_and(|bytes| newest.may_be_torn(bytes));
                    (severity(by_crash), reason(why, copy))
                }
            };
            self.report.add(
                severity,
                FindingText {
                    structure: format!("superblock copy {name}"),
                    offset: copy.offset,
                    wrong,
                    meaning,
                    lost: nothing("the other copy is whole"),
                },
            );
        }
    }

    /// Audits the incarnation blocks. `both_gone` is true if neither is there although the store was opened.
    pub(super) fn incarnations(&mut self, blocks: &Pair, both_gone: bool) {
        let meaning = match both_gone {
            true => BOTH_GONE,
            false => DISTINGUISHES,
        };
        let identity = self.superblock.identity;
        for (block, name) in blocks.iter().zip(NAMES) {
            let (severity, wrong) = match &block.decoded {
                Ok(found) if found.offset() == block.offset => continue,
                Ok(found) => {
                    let wrong = format!("opening {} belongs in the other place", found.number);
                    (Severity::Damage, wrong)
                }
                // Blocks of an earlier epoch stay until they are overwritten.
                Err(Corruption::WrongEpoch { found, .. }) if *found < identity.epoch => continue,
                // A format clears both places.
                Err(_) if block.bytes.as_deref().is_some_and(is_zero) => continue,
                Err(why) => {
                    let torn = |bytes: &[u8]| Incarnation::may_be_torn(bytes, &identity);
                    let newer = matches!(why, Corruption::WrongEpoch { .. });
                    let by_crash = !newer && block.bytes.as_deref().is_some_and(torn);
                    (severity(by_crash), reason(why, block))
                }
            };
            self.report.add(
                severity,
                FindingText {
                    structure: format!("incarnation block {name}"),
                    offset: block.offset,
                    wrong,
                    meaning,
                    lost: nothing("no entry depends on it"),
                },
            );
        }
    }

    /// Finds data that belongs to another program.
    pub(super) fn foreign(
        &mut self,
        copies: &[BlockAt<Superblock>; 2],
        blocks: &Pair,
        capacity: u64,
    ) -> Result<Vec<Foreign>, OpenError> {
        let found = whose::look(&mut self.io, capacity, self.superblock, copies, blocks);
        found.map_err(|source| OpenError::Io {
            what: "looking at the unused areas",
            source,
        })
    }

    pub(super) fn foreign_data(&mut self, found: &[Foreign]) {
        for foreign in found {
            self.report.damage(FindingText {
                structure: "device".into(),
                offset: foreign.offset,
                wrong: format!("it carries {}", foreign.what),
                meaning: "it was given to something else, which opening the store for writing would harm: that is refused, unless forced",
                lost: nothing("the store keeps no entry there"),
            });
        }
    }

    /// Remarks on the metadata blocks that a base lists as bad.
    pub(super) fn bad_blocks(&mut self, recovered: &Recovered) {
        for block in &recovered.bad_blocks {
            self.report.add(
                Severity::Remark,
                FindingText {
                    structure: "metadata block".into(),
                    offset: block * FORMAT_BLOCK as u64,
                    wrong: "the device has failed a write of it".into(),
                    meaning: "another copy or place serves; a drive that has more and more of them is failing",
                    lost: nothing("it has another copy, or went elsewhere"),
                },
            );
        }
    }

    /// Reports the loss on a device that is smaller than the layout.
    pub(super) fn cut(&mut self, recovered: &Recovered, capacity: u64) {
        let cut = cut::cost(&recovered.index, self.geometry, capacity);
        let opens = cut.lost == 0 && recovered.report.lost_metadata.is_none();
        let (meaning, lost) = match opens {
            true => (
                "readers open it as it is; an opening for writing grows a file again",
                nothing("no entry was there, and log ring 1 has the whole log"),
            ),
            false => (
                "the store does not open until all of it is there",
                format!("{} of {} entries", cut.lost, cut.entries),
            ),
        };
        self.report.damage(FindingText {
            structure: "device".into(),
            offset: capacity,
            wrong: format!(
                "the layout needs {} bytes, the device has {capacity}",
                self.superblock.device_bytes
            ),
            meaning,
            lost,
        });
        if !opens {
            self.report.state = AuditState::Unusable;
        }
    }

    /// Detects that both incarnation blocks are gone although the store was opened.
    pub(super) fn lost_incarnations(&self, known: &Pair, recovered: &Recovered) -> Option<Foreign> {
        let identity = &self.superblock.identity;
        whose::lost_incarnations(known, identity, recovered.incarnation)
    }

    /// Checks the incarnation blocks against the log: a session makes its block durable before it
    /// writes anything else.
    pub(super) fn openings_agree(&mut self, blocks: &Pair, recovered: &Recovered, both_gone: bool) {
        let meaning = match both_gone {
            true => BOTH_GONE,
            false => {
                "the block of the last opening was lost; numbers go on after the highest seen anywhere"
            }
        };
        let newest = newest_number(blocks);
        let wrote = recovered.incarnation;
        if newest.unwrap_or(0) < wrote {
            let named = newest.map_or("no opening".to_owned(), |newest| {
                format!("opening {newest} as the last")
            });
            self.report.damage(FindingText {
                structure: "incarnation blocks".into(),
                offset: INCARNATION_A_OFFSET,
                wrong: format!("they name {named}, yet opening {wrote} wrote to the store"),
                meaning,
                lost: nothing("no entry depends on it"),
            });
        }
        self.few_openings(newest.unwrap_or(0).max(wrote));
    }

    /// Remarks if incarnation numbers are running out.
    fn few_openings(&mut self, openings: u32) {
        let report = RecoveryReport {
            openings,
            ..RecoveryReport::default()
        };
        let Some(left) = report.few_openings_left() else {
            return;
        };
        let max = RecoveryReport::openings_max();
        self.report.remark(FindingText {
            structure: "incarnation blocks".into(),
            offset: INCARNATION_A_OFFSET,
            wrong: format!("{openings} of {max} openings for writing are used up"),
            meaning: "without any left the store opens for reading only; starting it empty or formatting it gives it as many again",
            lost: nothing(&format!("{left} openings are left")),
        });
    }
}

fn carries(signature: &str) -> FindingText {
    FindingText {
        structure: "device".into(),
        offset: 0,
        wrong: format!("it carries {signature}"),
        meaning: "it was given to something else; what is left of the store is listed below",
        lost: nothing("what is missing is listed below"),
    }
}

/// Returns `Remark` if a crash can leave the state, else `Damage`.
pub(super) fn severity(by_crash: bool) -> Severity {
    match by_crash {
        true => Severity::Remark,
        false => Severity::Damage,
    }
}

/// Returns whether a block is zero, as a format leaves it.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().take(FORMAT_BLOCK).all(|byte| *byte == 0)
}

/// Returns the device's read error, or else the decoder's reason.
fn reason<T>(why: &Corruption, placed: &BlockAt<T>) -> String {
    match &placed.unreadable {
        Some(error) => error_chain(error),
        None => why.reason(),
    }
}
