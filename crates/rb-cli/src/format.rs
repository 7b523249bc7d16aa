//! `rb format`: makes an empty store.

use std::path::Path;

use rb_core::{
    ClassRequest, EngineKind, FormatError, FormatOptions, Formatted, Geometry, Share, Superblock,
};
use serde::Serialize;

use crate::args::FormatArgs;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress::progress_bar;
use crate::size::show_size;

#[derive(Serialize)]
struct Made {
    path: String,
    uuid: String,
    device_bytes: u64,
    key_bytes: u32,
    metadata_bytes: u32,
    base_bytes: u64,
    log_bytes: u64,
    slots: u32,
    classes: Vec<Class>,
}

#[derive(Serialize)]
struct Class {
    slot_bytes: u64,
    slots: u64,
}

pub(crate) fn format(
    args: &FormatArgs,
    engine: EngineKind,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let mut options = FormatOptions {
        engine,
        ..options(args)?
    };
    if args.discard && !output.is_json() {
        options.progress = Some(progress_bar("discarding"));
    }
    let formatted = make(&options)?;
    for warning in formatted.warnings {
        output.warn(warning);
    }
    let made = Made::of(&args.path, &formatted.superblock);
    if output.is_json() {
        output.json(&made)?;
    } else {
        made.show(output)?;
    }
    Ok(Outcome::Done)
}

/// Formats, with errors that speak of this program's options.
pub(crate) fn make(options: &FormatOptions) -> Result<Formatted, Failure> {
    rb_core::format(options).map_err(|error| match error {
        FormatError::Consent { path, found } => Failure::Consent { path, found },
        FormatError::Occupied { path, found } => Failure::Occupied { path, found },
        source => Failure::Format { source },
    })
}

fn options(args: &FormatArgs) -> Result<FormatOptions, Failure> {
    let classes = classes(args)?;
    let is_new =
        std::fs::metadata(&args.path).map_or(true, |meta| meta.is_file() && meta.len() == 0);
    if is_new && args.size.is_none() && args.slots.is_none() {
        return Err(Failure::usage(format!(
            "{} is to be made: say how large with --size",
            args.path.display()
        )));
    }
    // Force goes only with consent: it widens what may be destroyed, not who agreed to it.
    Ok(FormatOptions {
        bytes: args.size,
        key_len_max: args.key_bytes,
        metadata_len_max: args.metadata_bytes,
        log_bytes: args.log_size,
        sparse: args.sparse,
        discard: args.discard,
        consent: args.yes,
        force: args.force && args.yes,
        ..FormatOptions::new(&args.path, classes)
    })
}

fn classes(args: &FormatArgs) -> Result<Vec<ClassRequest>, Failure> {
    match (args.slots, args.slot_bytes.as_slice()) {
        (None, classes) => Ok(classes.to_vec()),
        (
            Some(slots),
            &[
                ClassRequest {
                    slot_bytes,
                    share: Share::Rest,
                },
            ],
        ) => Ok(vec![ClassRequest {
            slot_bytes,
            share: Share::Slots(slots),
        }]),
        (Some(_), _) => Err(Failure::usage(
            "--slots goes with one slot class without a share",
        )),
    }
}

impl Made {
    fn of(path: &Path, superblock: &Superblock) -> Made {
        let geometry = Geometry::new(superblock);
        let classes = superblock
            .runs
            .iter()
            .map(|run| Class {
                slot_bytes: geometry.class_capacity(run.class),
                slots: run.count,
            })
            .collect();
        Made {
            path: path.display().to_string(),
            uuid: superblock.identity.uuid.to_string(),
            device_bytes: superblock.device_bytes,
            key_bytes: superblock.key_len_max,
            metadata_bytes: superblock.metadata_len_max,
            base_bytes: superblock.base_a.bytes,
            log_bytes: superblock.log.bytes,
            slots: geometry.slots(),
            classes,
        }
    }

    fn show(&self, output: &mut Output) -> Result<(), Failure> {
        output.line(format!("formatted {}", self.path))?;
        output.line(format!("  uuid      {}", self.uuid))?;
        output.line(format!(
            "  uses      {} ({} bytes)",
            show_size(self.device_bytes),
            self.device_bytes
        ))?;
        output.line(format!(
            "  metadata  2 x {} base, 2 x {} log",
            show_size(self.base_bytes),
            show_size(self.log_bytes)
        ))?;
        output.line(format!(
            "  limits    keys to {} bytes, metadata to {} bytes",
            self.key_bytes, self.metadata_bytes
        ))?;
        for class in &self.classes {
            output.line(format!(
                "  slots     {} of {}",
                class.slots,
                show_size(class.slot_bytes)
            ))?;
        }
        Ok(())
    }
}
