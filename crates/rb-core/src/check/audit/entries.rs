//! Audits the live entries: compares their headers and, with `deep`, their payloads with the index,
//! in batches at full queue depth. Slots that are not live are not judged, because they
//! legitimately hold old headers.

use rb_format::{Corruption, FORMAT_BLOCK, Generation, SlotHeader, SlotHeaderRef, padded_len};
use rb_index::{Index, Located};

use super::fixed::severity;
use super::report::{FindingText, Severity};
use super::shared::Audit;
use crate::core::entry_scan::{EntryScan, LiveEntry};
use crate::core::verify::{agrees, payload_matches};
use crate::error::OpenError;
use crate::error::error_chain;
use crate::io::meta_io::ReadAt;
use crate::io::pace::Pace;

/// Most entries whose reads are in flight together; their keys are held in memory.
const BATCH: usize = 16384;

impl Audit<'_> {
    /// Reads every live entry. Returns the keys of those that fail verification.
    pub(super) fn entries(&mut self, index: &Index) -> Result<Vec<Box<[u8]>>, OpenError> {
        let mut unverified = Vec::new();
        let all = index.stats().entries;
        let (mut walk, mut more) = (EntryScan::default(), true);
        while more {
            let mut batch = Vec::new();
            more = walk.step(index, BATCH, &mut |entry| {
                batch.push(LiveEntry::new(index, &entry));
            });
            // In device order, which rotating and networked devices like best.
            batch.sort_unstable_by_key(|entry| entry.located.slot);
            self.batch(&batch, &mut unverified)?;
            if let Some(progress) = &self.options.progress {
                progress.report(self.report.headers_read, all);
            }
        }
        self.report.unverified = unverified.len() as u64;
        Ok(unverified)
    }

    fn batch(
        &mut self,
        batch: &[LiveEntry],
        unverified: &mut Vec<Box<[u8]>>,
    ) -> Result<(), OpenError> {
        let (geometry, deep) = (self.geometry, self.options.deep);
        let reads = batch.iter().enumerate().filter_map(|(tag, entry)| {
            let payload = match deep {
                true => padded_len(u64::from(entry.located.payload_len)) as usize,
                false => 0,
            };
            Some(ReadAt {
                tag,
                offset: geometry.slot_offset(entry.located.slot.0)?,
                len: FORMAT_BLOCK + payload,
            })
        });
        let mut judged = Vec::new();
        let identity = self.superblock.identity;
        let read = self.io.read_each(&mut Pace::full(), reads, |tag, answer| {
            let entry = &batch[tag];
            let wrong = match answer {
                Err(error) => Some(Wrong::Unreadable(error_chain(&error))),
                Ok(bytes) => wrong_with(entry, bytes, deep, &identity),
            };
            judged.extend(wrong.map(|wrong| (tag, wrong)));
        });
        read.map_err(|source| OpenError::Io {
            what: "reading slots",
            source,
        })?;
        self.report.headers_read += batch.len() as u64;
        self.report.payloads_read += if deep { batch.len() as u64 } else { 0 };
        judged.sort_unstable_by_key(|(tag, _)| *tag);
        for (tag, wrong) in judged {
            let entry = &batch[tag];
            self.report_wrong(entry, &wrong);
            unverified.push(entry.key.clone());
        }
        for entry in batch {
            self.class(entry);
        }
        Ok(())
    }

    fn report_wrong(&mut self, entry: &LiveEntry, wrong: &Wrong) {
        let Located {
            slot, generation, ..
        } = entry.located;
        let opening = Generation(generation).incarnation();
        let settled = self.settled_from.is_some_and(|first| opening >= first);
        let (severity, wrong) = match wrong {
            Wrong::Unreadable(why) | Wrong::Impossible(why) => (Severity::Damage, why),
            Wrong::Undecided(why) => (severity(!settled), why),
        };
        let meaning = match severity {
            Severity::Damage => "it is a miss when it is read, and then forgotten",
            Severity::Remark => {
                "it never landed or was overwritten before a crash, or it is rotten; it is a miss when it is read"
            }
        };
        let key = entry.key.escape_ascii();
        self.report.add(
            severity,
            FindingText {
                structure: format!("slot {}", slot.0),
                offset: self.geometry.slot_offset(slot.0).unwrap_or(0),
                wrong: wrong.clone(),
                meaning,
                lost: format!("1 entry: key {key}, {} bytes", entry.located.payload_len),
            },
        );
    }

    /// Checks that a value is in the smallest class that holds it.
    fn class(&mut self, entry: &LiveEntry) {
        let Located {
            slot, payload_len, ..
        } = entry.located;
        let wanted = self.geometry.class_for(u64::from(payload_len));
        if wanted != Some(entry.located.class) {
            self.report.damage(FindingText {
                structure: format!("slot {}", slot.0),
                offset: self.geometry.slot_offset(slot.0).unwrap_or(0),
                wrong: format!(
                    "an entry of {payload_len} bytes is in class {}, it belongs in {wanted:?}",
                    entry.located.class
                ),
                meaning: "no writer of this version puts it there; it is served nevertheless",
                lost: super::report::nothing("it is whole"),
            });
        }
    }
}

/// Reason why an entry fails verification.
enum Wrong {
    Unreadable(String),
    /// Neither a torn nor a lost write leaves this.
    Impossible(String),
    /// A crash before the flush may leave this.
    Undecided(String),
}

fn wrong_with(
    entry: &LiveEntry,
    bytes: &[u8],
    deep: bool,
    identity: &rb_format::Identity,
) -> Option<Wrong> {
    let Located {
        slot, generation, ..
    } = entry.located;
    let (header, payload) = bytes.split_at(FORMAT_BLOCK);
    let found = match SlotHeader::decode(header, identity) {
        Ok(found) => found,
        Err(why) => {
            let torn = SlotHeaderRef::may_be_torn(header, identity, slot.0);
            // An older header is what a put leaves whose write was lost.
            let other = matches!(
                why,
                Corruption::WrongStore { .. } | Corruption::WrongEpoch { .. }
            );
            let why = why.to_string();
            return Some(match torn || other {
                true => Wrong::Undecided(why),
                false => Wrong::Impossible(why),
            });
        }
    };
    if agrees(&found, &entry.key, &entry.located) {
        let rotten = deep && !payload_matches(identity, payload, &entry.key, &entry.located);
        return rotten.then(|| {
            Wrong::Undecided("the header is right, the payload does not match its checksum".into())
        });
    }
    let why = format!(
        "its header is that of generation {} in slot {}, the index says {generation}",
        found.generation.0, found.slot
    );
    // A generation has only one put, and a header names the slot it is in.
    let impossible = found.slot != slot.0 || found.generation.0 == generation;
    Some(match impossible {
        true => Wrong::Impossible(why),
        false => Wrong::Undecided(why),
    })
}
