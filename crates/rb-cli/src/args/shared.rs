//! Arguments and parsers that several commands share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use rb_core::policy::{Learned, PolicyFactory};
use rb_core::{Placement, PlacementId};

pub(super) const SIZES: &str = "SIZE is a number of bytes, or a number with a unit: 4096, 64KiB, 1MiB, 1.5GiB, 1TiB. The short units k, m, g and t mean the same. Units are powers of 1024.";

/// Eviction policy of an open store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StorePolicy {
    /// Least recently used. Every put is admitted.
    #[default]
    Lru,
    /// Learns which blocks are read again and when; admits those that are worth more than what they replace.
    Learned,
}

impl StorePolicy {
    /// The policy's name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            StorePolicy::Lru => "lru",
            StorePolicy::Learned => "learned",
        }
    }

    /// The factory that makes it; `None` for the default of a store.
    #[must_use]
    pub fn factory(self) -> Option<Arc<dyn PolicyFactory>> {
        match self {
            StorePolicy::Lru => None,
            StorePolicy::Learned => Some(Arc::new(Learned::default())),
        }
    }
}

/// Placement ids on the command line.
#[derive(Clone, Debug, Default, Args)]
pub struct PlacementArgs {
    /// Placement id (1 or more) of the log and the checkpoints, for a device that has placement ids.
    #[arg(long, allow_negative_numbers = true, value_name = "ID", value_parser = parse_placement)]
    pub placement_metadata: Option<PlacementId>,
    /// Placement ids (1 or more) of the values, separated by commas, for a device that has placement ids. The policy
    /// learned divides the values among up to four by how long they will stay; lru uses the first.
    #[arg(long, allow_negative_numbers = true, value_name = "ID", value_parser = parse_placement, value_delimiter = ',')]
    pub placement_data: Vec<PlacementId>,
}

impl PlacementArgs {
    pub(crate) fn placement(&self) -> Placement {
        Placement {
            metadata: self.placement_metadata,
            lifetimes: self.placement_data.clone(),
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

/// Parses a whole number. The parsers of the standard library speak of invalid digits in a string.
pub(super) fn parse_number<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(
            "it is not a whole number of digits, without sign, unit or fraction".to_owned(),
        );
    }
    let number = text.parse::<u64>().ok();
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| {
        let max = u64::MAX >> (64 - 8 * size_of::<T>());
        format!("it is more than {max}")
    })
}

/// Parses a whole number that is not 0.
pub(super) fn parse_positive<T: TryFrom<u64> + From<u8> + PartialOrd>(
    text: &str,
) -> Result<T, String> {
    let number = parse_number(text)?;
    if number < T::from(1) {
        return Err("it is less than 1".to_owned());
    }
    Ok(number)
}

pub(super) fn parse_seconds(text: &str) -> Result<f64, &'static str> {
    let seconds = text.parse();
    seconds.map_err(|_| "it is not a number of seconds, as in 5 or 0.5")
}

/// Parses the time between two looks at a store.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let range = 0.1..=3600.0;
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|seconds| range.contains(seconds));
    let duration = seconds.map(Duration::from_secs_f64);
    duration.ok_or_else(|| "it is not a number of seconds from 0.1 to 3600".to_owned())
}

pub(super) fn parse_exponent(text: &str) -> Result<f64, &'static str> {
    let exponent = text.parse::<f64>().ok();
    let in_range = exponent.filter(|exponent| (0.0..=10.0).contains(exponent));
    in_range.ok_or("it is not a number from 0 to 10, as in 0.99")
}

fn parse_placement(text: &str) -> Result<PlacementId, String> {
    let id = text.parse().map(PlacementId);
    id.map_err(|_| format!("a placement id is a number from 1 to {}", u16::MAX))
}
