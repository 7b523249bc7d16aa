//! `rb inspect`: any structure of a store, field by field.

use rb_core::{EngineKind, Inspected, OpenError, Side, Target};
use serde::Serialize;

use crate::args::{InspectArgs, Structure, Which};
use crate::failure::Failure;
use crate::key::parse_key;
use crate::outcome::Outcome;
use crate::output::Output;

#[derive(Serialize)]
struct Line {
    path: String,
    structures: Vec<Shown>,
}

#[derive(Serialize)]
struct Shown {
    structure: String,
    offset: u64,
    sound: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    fields: Vec<Field>,
}

#[derive(Serialize)]
struct Field {
    /// Device byte.
    offset: u64,
    bytes: u64,
    name: String,
    value: String,
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
            // Asked for everything: the copies of the superblock have said why there is no more.
            (Err(OpenError::Superblock { .. } | OpenError::Truncated { .. }), None) => break,
            (Err(OpenError::Option { option: "key", .. }), Some(_)) => {
                let key = args.key.as_deref().unwrap_or_default();
                output.warn(format!("{} has no key {key}", args.path.display()));
                outcome = Outcome::Miss;
                break;
            }
            (Err(source), _) => {
                let path = args.path.clone();
                return Err(Failure::Open { path, source });
            }
        };
        structures.extend(found.into_iter().map(Shown::of));
    }
    if output.is_json() {
        let path = args.path.display().to_string();
        output.json(&Line { path, structures })?;
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
    let only = |what: &str, given: bool, wanted: bool| match given && !wanted {
        true => Err(Failure::usage(format!(
            "{what} does not go with this structure"
        ))),
        false => Ok(()),
    };
    let structure = args.structure;
    let two = matches!(
        structure,
        Some(Structure::Superblock | Structure::Incarnation | Structure::Base)
    );
    only("--copy", side.is_some(), two)?;
    only(
        "--block",
        args.block.is_some(),
        structure == Some(Structure::Log),
    )?;
    only(
        "--slot",
        args.slot.is_some(),
        structure == Some(Structure::Slot),
    )?;
    only(
        "--key",
        args.key.is_some(),
        structure == Some(Structure::Slot),
    )?;
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
            (None, Some(key)) => Target::Key(parse_key(key)?),
            _ => return Err(Failure::usage("slot: say which with --slot or with --key")),
        },
    }])
}

impl Shown {
    fn of(found: Inspected) -> Shown {
        let start = found.offset;
        let fields = found.fields.into_iter().map(|field| Field {
            offset: start + field.offset,
            bytes: field.len,
            name: field.name,
            value: field.value,
        });
        Shown {
            structure: found.title,
            offset: start,
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
            self.structure, self.offset
        ))?;
        for field in &self.fields {
            output.line(format!(
                "  {:>14} {:>5}  {:<22} {}",
                field.offset, field.bytes, field.name, field.value
            ))?;
        }
        for note in &self.notes {
            output.line(format!("  {note}"))?;
        }
        Ok(())
    }
}
