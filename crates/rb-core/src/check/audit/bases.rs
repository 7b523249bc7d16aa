//! Audits the two checkpoint bases. Recovery needs one base and the log after it; the audit checks
//! both.

use std::ops::Range;

use rb_format::Corruption;
use rb_index::Index;

use super::fixed::{is_zero, severity};
use super::report::{FindingText, Severity, nothing};
use super::rings::it_or_them;
use super::shared::Audit;
use crate::error::OpenError;
use crate::io::headers::{
    BASE_NAMES, FoundBase, HeaderPlace, PLACE_NAMES, PlaceState, read_headers,
};
use crate::memory;
use crate::open::recover::{from_base, no_base};
use crate::open::recover_options::RecoverOptions;
use crate::open::recovered::Recovered;
use crate::report::counted;

const OTHER_SERVES: &str = "the other base and the log after it hold everything";
const ONE_LESS: &str =
    "there is one fewer way to recover until the next checkpoint, which rewrites it";
const LOST_TOO: &str = "this base cannot be loaded, and metadata is lost";

/// The fault of a base that recovery did not use, or of the log that only this base needs.
enum Judged {
    Base(Severity, String),
    /// The log from block `first` on, of which recovery needs only block `end` and later ones.
    Log {
        first: u64,
        end: u64,
        why: Option<String>,
    },
}

impl Audit<'_> {
    /// Reports lost metadata.
    pub(super) fn lost(&mut self, recovered: &Recovered) {
        let report = &recovered.report;
        let Some(why) = &report.lost_metadata else {
            return;
        };
        let verified = report.scanned.map_or(0, |scanned| scanned.headers);
        let (structure, offset) = match recovered.lost_block {
            Some(block) => {
                let [offset, _] = self.superblock.log_block_offsets(block);
                (format!("log block {block}"), offset)
            }
            None => (
                "checkpoint bases A and B".into(),
                self.superblock.base_a.offset,
            ),
        };

        self.report.damage(FindingText {
            structure,
            offset,
            wrong: why.clone(),
            meaning: "metadata is lost: the headers of the slots decide what is there, and a removed key may return",
            lost: format!(
                "all metadata; slot headers show {}, {} of them the newest of their keys",
                counted(verified, "entry"),
                report.entries
            ),
        });
    }

    /// Audits both bases, whether or not recovery needed them.
    pub(super) fn bases(
        &mut self,
        recovered: &Recovered,
        how: &RecoverOptions,
    ) -> Result<(), OpenError> {
        let headers = read_headers(&mut self.io, self.superblock).map_err(no_base)?;
        let newest = headers
            .found
            .first()
            .map_or(0, |base| base.header.base_sequence);
        for (region, name) in BASE_NAMES.into_iter().enumerate() {
            let places = headers.places.iter().filter(|place| place.region == region);
            let Some(base) = headers.found.iter().find(|base| base.region == region) else {
                if let Some((severity, offset, wrong)) = self.no_headers(places, newest) {
                    let structure = format!("checkpoint base {name}");
                    self.base_finding(recovered, severity, structure, offset, wrong);
                }
                continue;
            };
            for place in places {
                let Some(wrong) = place.wrong() else { continue };
                let identity = &self.superblock.identity;
                let by_crash = !self.report.clean && place.may_be_by_crash(identity);
                self.report.add(
                    severity(by_crash),
                    FindingText {
                        structure: format!(
                            "checkpoint base {name}, {} header",
                            PLACE_NAMES[place.place]
                        ),
                        offset: place.offset,
                        wrong,
                        meaning: "the next opening for writing rewrites it",
                        lost: nothing("the other header of this base is whole"),
                    },
                );
            }
            match self.whole_header(recovered, how, base, &headers.found)? {
                None => {}
                Some(Judged::Base(severity, wrong)) => {
                    let structure = format!("checkpoint base {name}");
                    let offset = self.region_offset(region);
                    self.base_finding(recovered, severity, structure, offset, wrong);
                }
                Some(Judged::Log { first, end, why }) => {
                    self.lost_log(name, first..end, why);
                }
            }
        }
        Ok(())
    }

    fn base_finding(
        &mut self,
        recovered: &Recovered,
        severity: Severity,
        structure: String,
        offset: u64,
        wrong: String,
    ) {
        // The finding about the loss of both bases names each of them and why.
        if recovered.report.lost_metadata.is_some() && recovered.lost_block.is_none() {
            return;
        }
        let (meaning, lost) = match recovered.report.lost_metadata {
            None => (ONE_LESS, nothing(OTHER_SERVES)),
            Some(_) => (LOST_TOO, "what only it and the log knew".to_owned()),
        };
        self.report.add(
            severity,
            FindingText {
                structure,
                offset,
                wrong,
                meaning,
                lost,
            },
        );
    }

    fn region_offset(&self, region: usize) -> u64 {
        [&self.superblock.base_a, &self.superblock.base_b][region].offset
    }

    /// Judges a base whose header decodes.
    fn whole_header(
        &mut self,
        recovered: &Recovered,
        how: &RecoverOptions,
        base: &FoundBase,
        found: &[FoundBase],
    ) -> Result<Option<Judged>, OpenError> {
        let used_region = recovered.newest.as_ref().map(|used| used.region);
        let used = found.iter().find(|used| Some(used.region) == used_region);
        if used_region == Some(base.region) {
            return Ok(None);
        }
        let (sb, geometry) = (self.superblock, self.geometry);
        let loaded = from_base(&mut self.io, sb, geometry, base, how)?;
        // A header is written after everything else, so a newest base that is unusable is damage.
        let is_newest = found
            .first()
            .is_some_and(|newest| newest.region == base.region);
        Ok(match loaded {
            Err(why) => Some(Judged::Base(
                severity(!is_newest && !self.report.clean),
                why,
            )),
            // The damage of its log has been reported already.
            Ok(_) if used.is_none() => None,
            Ok((other, damage)) => {
                let ends = other.end.sequence;
                // After a loss of metadata a new log began, which a base from before cannot reach.
                let new_log = used.is_some_and(|used| {
                    let position = used.header.position;
                    position.anchor == 0 && ends <= position.sequence
                });
                let is_short = ends != recovered.end.sequence;
                match (damage, new_log) {
                    (None, _) if !is_short => None,
                    (_, true) => Some(Judged::Base(
                        Severity::Remark,
                        "it is from before a loss of metadata, after which a new log began".into(),
                    )),
                    (damage, false) => Some(Judged::Log {
                        first: ends,
                        // A later block that is whole shows that one is missing, and no more.
                        end: match (&damage, used) {
                            (None, Some(used)) => used.header.position.sequence,
                            _ => ends + 1,
                        },
                        why: damage.map(|damage| damage.why),
                    }),
                }
            }
        })
    }

    /// Reports log blocks that only one base needs, and that are gone in both rings. The base itself is sound.
    fn lost_log(&mut self, base: &str, blocks: Range<u64>, why: Option<String>) {
        let first = blocks.start;
        let is_one = blocks.end.saturating_sub(first) <= 1;
        let structure = match is_one {
            true => format!("log block {first}"),
            false => format!("log blocks {first} to {}", blocks.end - 1),
        };
        let them = it_or_them(is_one);
        let [offset, _] = self.superblock.log_block_offsets(first);
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        self.report.damage(FindingText {
            structure,
            offset,
            wrong: format!("missing or damaged in both rings; base {base} needs {them}{why}"),
            meaning: "there is one fewer way to recover until the next checkpoint, which rewrites that base",
            lost: nothing(&format!("the other base was written after {them}")),
        });
    }

    /// Judges both header places of a base without a header, as one finding at the first of them.
    fn no_headers<'p>(
        &self,
        places: impl Iterator<Item = &'p HeaderPlace>,
        newest: u64,
    ) -> Option<(Severity, u64, String)> {
        let judged: Vec<_> = places
            .filter_map(|place| Some((place, self.no_header(place, newest)?)))
            .collect();
        let severity = judged.iter().map(|(_, (severity, _))| *severity).max()?;
        let (first, (_, why)) = judged.first()?;
        let alike =
            judged.len() == PLACE_NAMES.len() && judged.iter().all(|(_, (_, other))| other == why);
        let wrong = match alike {
            true => format!("both headers: {why}"),
            false => judged
                .iter()
                .map(|(place, (_, why))| format!("{} header: {why}", PLACE_NAMES[place.place]))
                .collect::<Vec<_>>()
                .join("; "),
        };
        Some((severity, first.offset, wrong))
    }

    /// Judges one header place of a base without a header.
    fn no_header(&self, place: &HeaderPlace, newest: u64) -> Option<(Severity, String)> {
        let identity = &self.superblock.identity;
        let wrong = place.wrong()?;
        let PlaceState::Refused { why, bytes } = &place.state else {
            return Some((Severity::Damage, wrong));
        };
        let by_crash = match why {
            // A start-empty writes the first base of the next epoch before the superblock.
            Corruption::WrongEpoch { found, .. } if *found == identity.epoch + 1 => true,
            // The second base of an epoch goes to the other region, which is never cleared again.
            Corruption::WrongEpoch { found, .. } if *found < identity.epoch && newest <= 1 => {
                return None;
            }
            // As a format leaves it.
            _ if is_zero(bytes) && newest <= 1 => return None,
            // A crash tore the header while the checkpoint was writing both places.
            _ => !self.report.clean && newest > 0 && place.may_be_by_crash(identity),
        };
        Some((severity(by_crash), wrong))
    }

    /// Checks that every slot is in exactly one state, and every entry in a slot of the right
    /// class.
    pub(super) fn accounting(&mut self, index: &Index) -> Result<(), OpenError> {
        let slots = u64::from(self.geometry.slots());
        // Two bits per slot. Without memory for them the audit fails, which is no statement about
        // damage.
        memory::check("memory for the accounting", slots / 4).map_err(|source| OpenError::Io {
            what: "checking the accounting",
            source,
        })?;
        let counted: u64 = index
            .stats()
            .classes
            .iter()
            .map(|class| class.capacity)
            .sum();
        let short = (counted != slots)
            .then(|| format!("free, live, retired and bad slots are {counted} of {slots}"));
        if let Some(why) = index.audit().err().or(short) {
            self.report.damage(FindingText {
                structure: "index".into(),
                offset: self.superblock.base_a.offset,
                wrong: why,
                meaning: "the slots do not add up: this is a fault of the program, keep the store's bytes and report it",
                lost: "unknown".into(),
            });
        }
        Ok(())
    }
}
