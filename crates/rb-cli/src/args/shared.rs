//! Arguments and parsers that several commands share.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use rb_core::{Placement, PlacementId};

pub(super) const SIZES: &str = "SIZE is a number of bytes, or a number with a unit: 4096, 64KiB, 1MiB, 1.5GiB, 1TiB. The short units k, m, g and t mean the same. Units are powers of 1024.";

/// Placement ids on the command line.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct PlacementArgs {
    /// Placement id (1 or more) of the log and the checkpoints, for a device that has placement ids.
    #[arg(long, allow_negative_numbers = true, value_name = "ID", value_parser = parse_placement)]
    pub placement_metadata: Option<PlacementId>,
    /// Placement id (1 or more) of the values, for a device that has placement ids.
    #[arg(long, allow_negative_numbers = true, value_name = "ID", value_parser = parse_placement)]
    pub placement_data: Option<PlacementId>,
}

impl PlacementArgs {
    pub(crate) fn placement(self) -> Placement {
        Placement {
            metadata: self.placement_metadata,
            lifetimes: self.placement_data.into_iter().collect(),
        }
    }
}

/// Parses a path. clap's own parser takes an empty argument for a missing one.
pub(super) fn path_parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|path| match path.is_empty() {
        true => Err("the path is empty"),
        false => Ok(PathBuf::from(path)),
    })
}

fn parse_placement(text: &str) -> Result<PlacementId, String> {
    let id = text.parse().map(PlacementId);
    id.map_err(|_| format!("a placement id is a number from 1 to {}", u16::MAX))
}
