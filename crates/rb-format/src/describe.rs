//! Lists the fields of a structure from its bytes, valid or not, for inspecting a device.
//!
//! A decoder rejects a structure as a whole; this module shows the contents of each field, so that
//! the wrong one can be found. Offsets come from the structs (see `tables`).

pub(crate) mod tables;
#[cfg(test)]
mod tests;

pub use tables::Structure;

use crate::block::CHECKSUM_OFFSET;
use crate::log::Record;
use crate::more_slots::MORE_SLOT_LEN;
use crate::{Corruption, Generation, RUNS_MAX, StoreUuid};

/// One field of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldText {
    /// Offset in bytes from the start of the described bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Its name; names of nested parts are joined with dots, as in `runs[0].stride`.
    pub name: String,
    /// Its contents as text.
    pub value: String,
}

/// Lists every field of `bytes`, interpreted as `structure`, valid or not. Reserved bytes are
/// listed only if they are not zero; fields beyond the end of `bytes` are omitted.
///
/// `bytes` may hold several consecutive directory entries; of any other structure it holds one.
#[must_use]
pub fn describe(structure: Structure, bytes: &[u8]) -> Vec<FieldText> {
    let mut fields = Fields::default();
    match structure {
        Structure::DirectoryEntry => {
            for (number, entry) in (0_usize..).zip(bytes.chunks_exact(structure.bytes())) {
                let at = number * structure.bytes();
                fields.walk(structure, entry, at, &format!("sections[{number}]."));
            }
        }
        _ => fields.walk(structure, bytes, 0, ""),
    }
    fields.0
}

#[derive(Default)]
struct Fields(Vec<FieldText>);

impl Fields {
    fn push(&mut self, offset: usize, len: usize, name: String, value: String) {
        let (offset, len) = (offset as u64, len as u64);
        self.0.push(FieldText {
            offset,
            len,
            name,
            value,
        });
    }

    /// Lists the fields of one structure, which starts `at` bytes from the start of the described
    /// bytes.
    fn walk(&mut self, structure: Structure, bytes: &[u8], at: usize, before: &str) {
        for place in structure.places() {
            let Some(part) = bytes.get(place.offset..place.offset + place.len) else {
                return;
            };
            let start = at + place.offset;
            let name = format!("{before}{}", place.name);
            match place.name {
                "reserved" => {
                    if let Some(stray) = part.iter().position(|byte| *byte != 0) {
                        let value = format!("not zero at offset {}", start + stray);
                        self.push(start, part.len(), name, value);
                    }
                }
                "runs" => {
                    let count = number_of(structure, bytes, "run_count").min(RUNS_MAX as u64);
                    let stride = Structure::Run.bytes();
                    for (run, raw) in part.chunks_exact(stride).take(count as usize).enumerate() {
                        let name = format!("runs[{run}].");
                        self.walk(Structure::Run, raw, start + run * stride, &name);
                    }
                }
                "bad_slots" | "bad_blocks" => {
                    let (count, len) = match place.name {
                        "bad_slots" => ("bad_slot_count", 4),
                        _ => ("bad_block_count", 8),
                    };
                    let count = number_of(structure, bytes, count) as usize;
                    let listed = &part[..count.saturating_mul(len).min(part.len())];
                    self.push(start, listed.len(), name, list(listed, len));
                }
                "label" => {
                    let end = part.iter().rposition(|byte| *byte != 0);
                    let text = part[..end.map_or(0, |end| end + 1)].escape_ascii();
                    self.push(start, part.len(), name, text.to_string());
                }
                "body" => self.key_and_metadata(structure, bytes, part, start, before),
                "records" => {
                    let len = number_of(structure, bytes, "record_bytes") as usize;
                    self.records(part.get(..len).unwrap_or(part), start);
                }
                "checksum" if structure.is_block() => {
                    let (found, made) = (number(part), crc32fast::hash(&bytes[..CHECKSUM_OFFSET]));
                    let value = match found == u64::from(made) {
                        true => format!("{found:#x}"),
                        false => format!("{found:#x}, that of the bytes is {made:#x}"),
                    };
                    self.push(start, part.len(), name, value);
                }
                _ => self.push(start, part.len(), name, value(place.name, part)),
            }
        }
    }

    /// Lists key, metadata and further slots with the lengths in the structure, as far as there are
    /// bytes.
    fn key_and_metadata(
        &mut self,
        structure: Structure,
        bytes: &[u8],
        body: &[u8],
        start: usize,
        before: &str,
    ) {
        let mut at = 0;
        for (name, len) in [("key", "key_len"), ("metadata", "metadata_len")] {
            if !structure.places().iter().any(|place| place.name == len) {
                continue;
            }
            let len = (number_of(structure, bytes, len) as usize).min(body.len() - at);
            let text = body[at..at + len].escape_ascii().to_string();
            self.push(start + at, len, format!("{before}{name}"), text);
            at += len;
        }
        let more = number_of(structure, bytes, "more_slots") as usize * MORE_SLOT_LEN;
        let more = &body[at..at + more.min(body.len() - at)];
        if !more.is_empty() {
            let text = list(more, MORE_SLOT_LEN);
            self.push(start + at, more.len(), format!("{before}slots"), text);
        }
    }

    /// Lists records until one is invalid.
    fn records(&mut self, mut bytes: &[u8], mut start: usize) {
        for record in 0.. {
            let before = format!("records[{record}].");
            match record_structure(bytes) {
                Ok(None) => return,
                Ok(Some((structure, len))) => {
                    let head = structure.bytes();
                    self.walk(structure, &bytes[..head], start, &before);
                    self.key_and_metadata(
                        structure,
                        bytes,
                        &bytes[head..len],
                        start + head,
                        &before,
                    );
                    start += len;
                    bytes = &bytes[len..];
                }
                Err(why) => {
                    let value = format!("not a record: {why}");
                    self.push(start, bytes.len(), format!("records[{record}]"), value);
                    return;
                }
            }
        }
    }
}

/// Returns the structure and length of the first record of `bytes`; `None` at the end.
fn record_structure(bytes: &[u8]) -> Result<Option<(Structure, usize)>, Corruption> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (record, rest) = Record::decode(bytes)?;
    let structure = match record {
        Record::Put { .. } => Structure::PutRecord,
        Record::Remove { .. } => Structure::RemoveRecord,
        Record::BadSlot { .. } => Structure::BadSlotRecord,
        Record::Close => Structure::CloseRecord,
    };
    Ok(Some((structure, bytes.len() - rest.len())))
}

/// Reads a field of a structure as a number; 0 if the bytes end before it.
fn number_of(structure: Structure, bytes: &[u8], name: &str) -> u64 {
    let places = structure.places();
    let place = places.iter().find(|place| place.name == name);
    place
        .and_then(|place| bytes.get(place.offset..place.offset + place.len))
        .map_or(0, number)
}

/// Formats numbers of `len` bytes each.
fn list(bytes: &[u8], len: usize) -> String {
    let numbers: Vec<String> = bytes
        .chunks_exact(len)
        .map(|raw| number(raw).to_string())
        .collect();
    format!("[{}]", numbers.join(", "))
}

/// Reads up to 8 bytes as a little-endian number.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn value(name: &str, bytes: &[u8]) -> String {
    match (name, bytes.len()) {
        ("magic", _) => bytes.escape_ascii().to_string(),
        (_, 16) => {
            let mut uuid = [0; 16];
            uuid.copy_from_slice(bytes);
            StoreUuid(uuid).to_string()
        }
        ("generation" | "generation_floor", _) => {
            let generation = Generation(number(bytes));
            let (opening, counter) = (generation.incarnation(), generation.counter());
            format!("{} (opening {opening}, number {counter})", generation.0)
        }
        (
            "checksum"
            | "payload_checksum"
            | "directory_checksum"
            | "key_hash"
            | "predecessor"
            | "log_anchor"
            | "hash_first"
            | "hash_last"
            | "features_compatible"
            | "features_read_only"
            | "features_incompatible",
            _,
        ) => format!("{:#x}", number(bytes)),
        _ => number(bytes).to_string(),
    }
}
