//! `rb format`: makes an empty store.

use std::path::Path;

use rb_core::{
    ClassRequest, EngineKind, FormatError, FormatOptions, Formatted, Geometry, LayoutError, Share,
    Source, StoreUuid, Superblock,
};
use rb_format::{Identity, LABEL_LEN, LayoutRequest, plan};
use serde::Serialize;

use crate::args::FormatArgs;
use crate::failure::Failure;
use crate::key::parse_bytes;
use crate::outcome::Outcome;
use crate::output::Output;
use crate::progress::progress_bar;
use crate::size::{counted, show_size};

#[derive(Serialize)]
struct FormatLine {
    path: String,
    uuid: String,
    layout_bytes: u64,
    key_bytes_max: u32,
    metadata_bytes_max: u32,
    base_bytes: u64,
    log_bytes: u64,
    slots: u32,
    classes: Vec<FormattedClass>,
}

#[derive(Serialize)]
struct FormattedClass {
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
    if let Some(percent) = unused_percent(&options.classes) {
        output.warn(format!(
            "the shares of --slot-bytes are {} % together: the other {percent} % of the space stays unused",
            100 - percent
        ));
    }
    let made = FormatLine::of(&args.path, &formatted.superblock);
    if output.is_json() {
        output.json(&made)?;
    } else {
        made.show(output)?;
    }
    Ok(Outcome::Done)
}

/// Formats, with errors that name this program's options.
pub(crate) fn make(options: &FormatOptions) -> Result<Formatted, Failure> {
    rb_core::format(options).map_err(|error| match error {
        FormatError::Consent { path, found } => Failure::Consent { path, found },
        FormatError::Occupied { path, found } => Failure::Occupied { path, found },
        FormatError::Layout(LayoutError::DeviceTooSmall {
            needed,
            device_bytes,
        }) if options.bytes == Some(device_bytes) => {
            let least = least_size(options, needed);
            let cause = too_small_for(options, device_bytes);
            Failure::usage(format!(
                "--size is {}, the smallest that works for {cause} is {least}",
                counted(device_bytes, "byte")
            ))
        }
        FormatError::Layout(LayoutError::DeviceTooSmall {
            needed,
            device_bytes,
        }) if let Source::Path(path) = &options.source => {
            existing_too_small(options, path, needed, device_bytes)
        }
        FormatError::Layout(source) => layout_failure(source),
        FormatError::Label { len } if len > LABEL_LEN => Failure::usage(format!(
            "--label has {len} bytes: a label has at most {LABEL_LEN}"
        )),
        FormatError::Label { .. } => {
            Failure::usage("--label ends with a zero byte, which could not be read back")
        }
        source => Failure::Format { source },
    })
}

/// The error for an existing file or device that is too small.
fn existing_too_small(
    options: &FormatOptions,
    path: &Path,
    needed: u64,
    device_bytes: u64,
) -> Failure {
    let grows = match path.is_file() {
        true => "; a larger --size makes the file grow",
        false => "",
    };
    Failure::usage(format!(
        "{} has {}, the smallest size that works for {} is {}{grows}",
        path.display(),
        counted(device_bytes, "byte"),
        too_small_for(options, device_bytes),
        least_size(options, needed)
    ))
}

/// Names the option that a number of the layout comes from.
fn layout_failure(source: LayoutError) -> Failure {
    let text = match source {
        LayoutError::LogBytes {
            found,
            min,
            multiple,
        } => format!(
            "--log-size is {}: it must be at least {min}, and a multiple of {multiple}",
            counted(found, "byte")
        ),
        LayoutError::KeyLenMax { found, max } => {
            format!("--key-bytes is {found}: it must be 1 to {max}")
        }
        LayoutError::MetadataLenMax { found, max } => {
            format!("--metadata-bytes is {found}: it must be 0 to {max}")
        }
        source => {
            return Failure::Format {
                source: FormatError::Layout(source),
            };
        }
    };
    Failure::usage(text)
}

/// Names what does not fit the size: the log alone if the slots fit with the default log.
fn too_small_for(options: &FormatOptions, device_bytes: u64) -> String {
    match options.log_bytes {
        None => "these slots".to_owned(),
        Some(log) if fits(options, device_bytes, None) => format!("a --log-size of {log}"),
        Some(log) => format!("these slots and a --log-size of {log}"),
    }
}

/// Returns whether the layout fits a device, with a log of this size.
fn fits(options: &FormatOptions, device_bytes: u64, log_bytes: Option<u64>) -> bool {
    let identity = Identity {
        uuid: StoreUuid([0; 16]),
        epoch: 1,
    };
    let request = LayoutRequest {
        device_bytes,
        classes: options.classes.clone(),
        key_len_max: options.key_len_max,
        metadata_len_max: options.metadata_len_max,
        log_bytes,
    };
    plan(&request, identity).is_ok()
}

/// Returns the smallest size that a layout fits, in bytes; at least `needed`.
fn least_size(options: &FormatOptions, needed: u64) -> u64 {
    let fits = |device_bytes: u64| fits(options, device_bytes, options.log_bytes);
    // With percentages `needed` is only a lower bound.
    let (mut too_small, mut enough) = (needed.saturating_sub(1), needed);
    while !fits(enough) && enough < u64::MAX / 2 {
        (too_small, enough) = (enough, 2 * enough);
    }
    while enough - too_small > 1 {
        let middle = too_small + (enough - too_small) / 2;
        match fits(middle) {
            true => enough = middle,
            false => too_small = middle,
        }
    }
    enough
}

fn options(args: &FormatArgs) -> Result<FormatOptions, Failure> {
    args.slots.map_or(Ok(()), check_slots)?;
    let classes = classes(args)?;
    let is_new =
        std::fs::metadata(&args.path).map_or(true, |meta| meta.is_file() && meta.len() == 0);
    if is_new && args.size.is_none() && args.slots.is_none() {
        return Err(Failure::usage(format!(
            "{} does not exist or is empty: give its size with --size, or its number of slots with --slots",
            args.path.display()
        )));
    }
    let label = args.label.as_deref();
    let label = label.map_or(Ok(Vec::new()), |label| parse_bytes("--label", label))?;
    // --force widens what consent covers; it is not consent.
    Ok(FormatOptions {
        bytes: args.size,
        key_len_max: args.key_bytes,
        metadata_len_max: args.metadata_bytes,
        log_bytes: args.log_size,
        label,
        sparse: args.sparse,
        discard: args.discard,
        consent: args.yes,
        force: args.force && args.yes,
        ..FormatOptions::new(&args.path, classes)
    })
}

/// Refuses a store without slots.
pub(crate) fn check_slots(slots: u64) -> Result<(), Failure> {
    match slots {
        0 => Err(Failure::usage(
            "--slots is 0: a store has at least one slot",
        )),
        _ => Ok(()),
    }
}

/// Returns the percentage of the space that no class gets; `None` if it is 0, or another class takes the rest.
fn unused_percent(classes: &[ClassRequest]) -> Option<u32> {
    let percent = |class: &ClassRequest| match class.share {
        Share::Percent(percent) => Some(percent),
        Share::Slots(_) | Share::Rest => None,
    };
    let shares: Option<Vec<u32>> = classes.iter().map(percent).collect();
    let unused = 100_u32.saturating_sub(shares?.iter().sum());
    (unused > 0).then_some(unused)
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
            "--slots needs exactly one slot class, without a share",
        )),
    }
}

impl FormatLine {
    fn of(path: &Path, superblock: &Superblock) -> FormatLine {
        let geometry = Geometry::new(superblock);
        let classes = superblock
            .runs
            .iter()
            .map(|run| FormattedClass {
                slot_bytes: geometry.class_capacity(run.class),
                slots: run.count,
            })
            .collect();
        FormatLine {
            path: path.display().to_string(),
            uuid: superblock.identity.uuid.to_string(),
            layout_bytes: superblock.device_bytes,
            key_bytes_max: superblock.key_len_max,
            metadata_bytes_max: superblock.metadata_len_max,
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
            show_size(self.layout_bytes),
            self.layout_bytes
        ))?;
        output.line(format!(
            "  metadata  2 x {} base, 2 x {} log",
            show_size(self.base_bytes),
            show_size(self.log_bytes)
        ))?;
        output.line(format!(
            "  limits    keys to {}, metadata to {}",
            counted(self.key_bytes_max.into(), "byte"),
            counted(self.metadata_bytes_max.into(), "byte")
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
