//! `rb inspect`: shows any structure of a store field by field.

use rb_core::{EngineKind, Inspected, OpenError, Side, Target};
use serde::Serialize;

use crate::args::{InspectArgs, Structure, Which};
use crate::failure::Failure;
use crate::key::parse_valid_key;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::size::counted;

#[derive(Serialize)]
struct InspectLine {
    path: String,
    structures: Vec<ShownStructure>,
}

#[derive(Serialize)]
struct ShownStructure {
    structure: String,
    offset_bytes: u64,
    sound: bool,
    refused: Option<String>,
    notes: Vec<String>,
    fields: Vec<ShownField>,
}

#[derive(Serialize)]
struct ShownField {
    /// Offset on the device.
    offset_bytes: u64,
    length_bytes: u64,
    name: String,
    /// The field's number; `None` if it is not one.
    value: Option<u64>,
    text: String,
}

pub(crate) fn inspect(
    args: &InspectArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let mut structures = Vec::new();
    let mut outcome = Outcome::Done;
    for target in targets(args)? {
        let found = rb_core::inspect(&args.path, engine, &target);
        let found = match (found, args.structure) {
            (Ok(found), _) => found,
            // All structures were asked for: the shown superblock copies say why there are no more.
            (Err(OpenError::Superblock { .. } | OpenError::Truncated { .. }), None) => break,
            (Err(OpenError::Option { option: "key", .. }), Some(_)) => {
                // An answer and not a fault, so it goes to standard output.
                if !output.is_json() {
                    let key = args.key.as_deref().unwrap_or_default();
                    output.line(format!("{} has no key {key}", args.path.display()))?;
                }
                outcome = Outcome::Miss;
                break;
            }
            (Err(OpenError::NoSuchSlot { slot, slots }), Some(_)) => {
                return Err(Failure::usage(format!(
                    "--slot is {slot}: this store has {}, numbered from 0",
                    counted(slots.into(), "slot")
                )));
            }
            (Err(source), _) => {
                let path = args.path.clone();
                return Err(Failure::Open { path, source });
            }
        };
        structures.extend(found.into_iter().map(ShownStructure::of));
    }
    if output.is_json() {
        let path = args.path.display().to_string();
        output.json(&InspectLine { path, structures })?;
    } else {
        for shown in &structures {
            shown.show(output)?;
        }
    }
    Ok(outcome)
}

fn targets(args: &InspectArgs) -> Result<Vec<Target>, Failure> {
    let side = args.copy.map(|copy| match copy {
        Which::A => Side::A,
        Which::B => Side::B,
    });
    let structure = args.structure;
    for (option, is_given) in [
        ("--copy", side.is_some()),
        ("--block", args.block.is_some()),
        ("--slot", args.slot.is_some()),
        ("--key", args.key.is_some()),
    ] {
        let (name, takes) = options_of(structure);
        if is_given && !takes.contains(&option) {
            let takes = match takes {
                [] => "which takes none: name one structure".to_owned(),
                takes => format!("which takes {}", takes.join(" or ")),
            };
            return Err(Failure::usage(format!(
                "{option} is not an option of {name}, {takes}"
            )));
        }
    }
    Ok(vec![match structure {
        None => {
            return Ok(vec![
                Target::Superblock(None),
                Target::Incarnation(None),
                Target::Base(None),
                Target::Log,
            ]);
        }
        Some(Structure::Superblock) => Target::Superblock(side),
        Some(Structure::Incarnation) => Target::Incarnation(side),
        Some(Structure::Base) => Target::Base(side),
        Some(Structure::Log) => args.block.map_or(Target::Log, Target::LogBlock),
        Some(Structure::Slot) => match (args.slot, &args.key) {
            (Some(slot), None) => Target::Slot(slot),
            (None, Some(key)) => Target::Key(parse_valid_key(key)?),
            _ => {
                return Err(Failure::usage(
                    "slot: give its number with --slot or its key with --key",
                ));
            }
        },
    }])
}

/// Returns the name of a structure on the command line, and the options that it takes.
fn options_of(structure: Option<Structure>) -> (&'static str, &'static [&'static str]) {
    match structure {
        None => ("all structures", &[]),
        Some(Structure::Superblock) => ("superblock", &["--copy"]),
        Some(Structure::Incarnation) => ("incarnation", &["--copy"]),
        Some(Structure::Base) => ("base", &["--copy"]),
        Some(Structure::Log) => ("log", &["--block"]),
        Some(Structure::Slot) => ("slot", &["--slot", "--key"]),
    }
}

impl ShownStructure {
    fn of(found: Inspected) -> ShownStructure {
        let start = found.offset;
        let fields = found.fields.into_iter().map(|field| ShownField {
            offset_bytes: start + field.offset,
            length_bytes: field.len,
            value: number(&field.name, &field.value),
            name: field.name,
            text: field.value,
        });
        ShownStructure {
            structure: found.title,
            offset_bytes: start,
            sound: found.refused.is_none(),
            refused: found.refused,
            notes: found.notes,
            fields: fields.collect(),
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        let verdict = self
            .refused
            .as_ref()
            .map_or("sound".to_owned(), |why| format!("refused: {why}"));
        output.line(format!(
            "{} at byte {}: {verdict}",
            self.structure, self.offset_bytes
        ))?;
        for field in &self.fields {
            output.line(format!(
                "  {:>14} {:>5}  {:<22} {}",
                field.offset_bytes, field.length_bytes, field.name, field.text
            ))?;
        }
        for note in &self.notes {
            output.line(format!("  {note}"))?;
        }
        Ok(())
    }
}

/// The number that a field's text shows, decimal or as `0x…`. `None` for keys, metadata, labels and lists,
/// even if their text has only digits.
fn number(name: &str, text: &str) -> Option<u64> {
    let name = name.rsplit('.').next().unwrap_or(name);
    if matches!(
        name,
        "key" | "metadata" | "label" | "slots" | "bad_slots" | "bad_blocks"
    ) {
        return None;
    }
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn texts_of_digits_are_not_numbers() {
        assert_eq!(number("base_sequence", "7"), Some(7));
        assert_eq!(number("checksum", "0xff"), Some(255));
        assert_eq!(
            number("store.generation_max", "18446744073709551615"),
            Some(u64::MAX)
        );
        assert_eq!(number("checksum", "0x1, that of the bytes is 0x2"), None);
        for name in ["key", "records[0].metadata", "label", "slots", "bad_slots"] {
            assert_eq!(number(name, "17"), None, "{name}");
        }
    }
}
