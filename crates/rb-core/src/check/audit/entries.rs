//! Audits the live entries: compares their headers and, with `deep`, their payloads with the index,
//! in batches at full queue depth. Slots that are not live are not judged, because they
//! legitimately hold old headers.

use rb_format::{AnyHeader, Corruption, FORMAT_BLOCK, Generation, Identity};
use rb_index::{Index, Located, SlotId};

use super::fixed::severity;
use super::report::{FindingText, Severity};
use super::shared::Audit;
use crate::core::entry_scan::{EntryScan, LiveEntry, all_pieces};
use crate::core::pieces::Piece;
use crate::core::verify::{EntryCheck, piece_header_matches};
use crate::error::OpenError;
use crate::error::error_chain;
use crate::io::meta_io::ReadAt;
use crate::io::pace::Pace;
use crate::report::counted;

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
        let pieces = all_pieces(batch, geometry);
        let reads = pieces.iter().enumerate().map(|(tag, (_, piece))| ReadAt {
            tag,
            offset: piece.header_offset(geometry),
            len: FORMAT_BLOCK + if deep { piece.padded_len() } else { 0 },
        });
        let mut judged: Vec<(usize, SlotId, Wrong)> = Vec::new();
        let identity = self.superblock.identity;
        let check = |entry| EntryCheck::new(entry, deep);
        let mut checks: Vec<_> = batch.iter().map(check).collect();
        let capacity = self.capacity;
        let read = self.io.read_each(&mut Pace::full(), reads, |tag, answer| {
            let (at, piece) = &pieces[tag];
            let (entry, check) = (&batch[*at], &mut checks[*at]);
            let end = piece.header_offset(geometry) + (FORMAT_BLOCK + piece.padded_len()) as u64;
            let (is_last, wrong) = match answer {
                _ if end > capacity => (check.unreadable(), Some(Wrong::Cut { end, capacity })),
                Err(error) => {
                    let why = error_chain(&error);
                    (check.unreadable(), Some(Wrong::Unreadable(why)))
                }
                Ok(bytes) => {
                    let wrong = wrong_header(entry, piece, &bytes[..FORMAT_BLOCK], &identity);
                    (check.piece(&identity, entry, piece, bytes), wrong)
                }
            };
            if let Some(wrong) = wrong {
                judged.push((*at, piece.slot, wrong));
            } else if is_last
                && check.all_headers_match()
                && check.verdict(&identity, entry) == Some(false)
            {
                // The checksum covers all parts, so it does not say which one is wrong.
                judged.push((*at, entry.slots[0], Wrong::rotten(entry)));
            }
        });
        read.map_err(|source| OpenError::Io {
            what: "reading slots",
            source,
        })?;
        self.report.headers_read += batch.len() as u64;
        self.report.payloads_read += if deep { batch.len() as u64 } else { 0 };
        // One finding for an entry is enough: that of its first wrong piece.
        judged.sort_by_key(|(at, slot, _)| {
            (*at, batch[*at].slots.iter().position(|own| own == slot))
        });
        judged.dedup_by_key(|(at, ..)| *at);
        for (at, slot, wrong) in judged {
            let entry = &batch[at];
            self.report_wrong(entry, slot, &wrong);
            unverified.push(entry.key.clone());
        }
        for entry in batch {
            self.class(entry);
        }
        Ok(())
    }

    fn report_wrong(&mut self, entry: &LiveEntry, slot: SlotId, wrong: &Wrong) {
        let opening = Generation(entry.located.generation).incarnation();
        let settled = self.settled_from.is_some_and(|first| opening >= first);
        let is_cut = matches!(wrong, Wrong::Cut { .. });
        let (severity, wrong) = match wrong {
            Wrong::Unreadable(why) | Wrong::Impossible(why) => (Severity::Damage, why.clone()),
            Wrong::Undecided(why) => (severity(!settled), why.clone()),
            Wrong::Cut { end, capacity } => {
                let why = format!("it ends at byte {end}, the device at byte {capacity}");
                (Severity::Damage, why)
            }
        };
        let meaning = match severity {
            Severity::Damage if is_cut => "the store does not open until all of it is there",
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
                wrong,
                meaning,
                lost: format!(
                    "1 entry: key {key}, {}",
                    counted(entry.located.payload_len.into(), "byte")
                ),
            },
        );
    }

    /// Checks that a value is in the smallest class that holds it, in no more slots than it fills.
    fn class(&mut self, entry: &LiveEntry) {
        let Located {
            slot, payload_len, ..
        } = entry.located;
        let wanted = self.geometry.slots_for(u64::from(payload_len));
        if wanted != Some((entry.located.class, entry.slots.len())) {
            let (class, slots) = wanted.unwrap_or_default();
            self.report.damage(FindingText {
                structure: format!("slot {}", slot.0),
                offset: self.geometry.slot_offset(slot.0).unwrap_or(0),
                wrong: format!(
                    "an entry of {payload_len} bytes is in class {}, slots {}; it belongs in class {class}, slots {slots}",
                    entry.located.class,
                    entry.slots.len(),
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
    /// It lies, at least in part, behind the end of the device.
    Cut {
        end: u64,
        capacity: u64,
    },
    /// Neither a torn nor a lost write leaves this.
    Impossible(String),
    /// A crash before the flush may leave this.
    Undecided(String),
}

impl Wrong {
    fn rotten(entry: &LiveEntry) -> Wrong {
        let headers = match entry.slots.len() {
            1 => "the header is right",
            _ => "the headers are right",
        };
        Wrong::Undecided(format!(
            "{headers}, the payload does not match its checksum"
        ))
    }
}

fn wrong_header(
    entry: &LiveEntry,
    piece: &Piece,
    header: &[u8],
    identity: &Identity,
) -> Option<Wrong> {
    if piece_header_matches(identity, header, entry, piece.number) {
        return None;
    }
    let generation = entry.located.generation;
    let found = match AnyHeader::decode(header, identity) {
        Ok(found) => found,
        Err(why) => {
            let torn = AnyHeader::may_be_torn(header, identity, piece.slot.0);
            // An older header is what a put leaves whose write was lost.
            let other = matches!(
                why,
                Corruption::WrongStore { .. } | Corruption::WrongEpoch { .. }
            );
            let why = format!("its header: {}", why.reason());
            return Some(match torn || other {
                true => Wrong::Undecided(why),
                false => Wrong::Impossible(why),
            });
        }
    };
    let why = format!(
        "its header is that of generation {} in slot {}, the index says {generation}",
        found.generation().0,
        found.slot()
    );
    // A generation has only one put, and a header names the slot it is in.
    let impossible = found.slot() != piece.slot.0 || found.generation().0 == generation;
    Some(match impossible {
        true => Wrong::Impossible(why),
        false => Wrong::Undecided(why),
    })
}
