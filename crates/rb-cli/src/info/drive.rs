//! The drive's own counters.

use std::path::Path;

use rb_io::Wear;
use serde::Serialize;

use crate::failure::Failure;
use crate::size::{counted, show_size};

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// Wear of an NVMe drive, by its own counters. All are `null` for other devices.
#[derive(Serialize, Default)]
pub(super) struct DriveLine {
    endurance_used_ratio: Option<f64>,
    spare_left_ratio: Option<f64>,
    drive_written_bytes: Option<u64>,
    powered_seconds: Option<u64>,
    life_left_seconds: Option<u64>,
    placed_host_bytes: Option<u64>,
    placed_media_bytes: Option<u64>,
    reason: Option<String>,
}

impl DriveLine {
    pub(super) fn of(path: &Path) -> DriveLine {
        match rb_io::wear(path) {
            Ok(None) => DriveLine::default(),
            Ok(Some(wear)) => DriveLine::from(wear),
            Err(error) => DriveLine {
                reason: Some(error.to_string()),
                ..DriveLine::default()
            },
        }
    }

    pub(super) fn show(
        &self,
        field: &mut impl FnMut(&str, String) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Some(reason) = &self.reason {
            return field("drive", format!("its counters cannot be read: {reason}"));
        }
        let (Some(used), Some(spare), Some(written), Some(powered)) = (
            self.endurance_used_ratio,
            self.spare_left_ratio,
            self.drive_written_bytes,
            self.powered_seconds,
        ) else {
            return Ok(());
        };
        let left = self.life_left_seconds.map_or(String::new(), |left| {
            format!(", {} left at that rate", counted(left / DAY, "day"))
        });
        field(
            "drive",
            format!(
                "{:.0} % of its endurance used, {:.0} % of its spare space left, {} written in {}{left}",
                100.0 * used,
                100.0 * spare,
                show_size(written),
                counted(powered / HOUR, "hour")
            ),
        )?;
        match (self.placed_host_bytes, self.placed_media_bytes) {
            (Some(host), Some(media)) => field(
                "placed",
                format!(
                    "{} by hosts, {} by the drive",
                    show_size(host),
                    show_size(media)
                ),
            ),
            _ => Ok(()),
        }
    }
}

impl From<Wear> for DriveLine {
    fn from(wear: Wear) -> DriveLine {
        DriveLine {
            endurance_used_ratio: Some(f64::from(wear.used_percent) / 100.0),
            spare_left_ratio: Some(f64::from(wear.spare_percent) / 100.0),
            drive_written_bytes: Some(wear.written_bytes),
            powered_seconds: Some(wear.powered_hours.saturating_mul(HOUR)),
            life_left_seconds: wear.days_left().map(|days| days.saturating_mul(DAY)),
            placed_host_bytes: wear.placed.map(|placed| placed.host_bytes),
            placed_media_bytes: wear.placed.map(|placed| placed.media_bytes),
            reason: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rb_io::PlacedWrites;

    use super::*;

    fn shown(drive: &DriveLine) -> Vec<String> {
        let mut lines = Vec::new();
        let shown = drive.show(&mut |name, text| {
            lines.push(format!("{name}: {text}"));
            Ok(())
        });
        assert!(shown.is_ok());
        lines
    }

    #[test]
    fn a_worn_drive_is_shown_and_a_file_is_not() {
        let wear = Wear {
            used_percent: 4,
            spare_percent: 97,
            written_bytes: 3 << 40,
            powered_hours: 2400,
            placed: Some(PlacedWrites {
                host_bytes: 1 << 30,
                media_bytes: 3 << 29,
            }),
        };
        let expected = [
            "drive: 4 % of its endurance used, 97 % of its spare space left, 3 TiB written in 2400 hours, 2400 days left at that rate",
            "placed: 1 GiB by hosts, 1.5 GiB by the drive",
        ];
        assert_eq!(shown(&wear.into()), expected);
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(shown(&DriveLine::of(file.path())).is_empty());
        let gone = shown(&DriveLine::of(Path::new("/nowhere/at/all")));
        assert!(gone[0].starts_with("drive: its counters cannot be read: No such file"));
    }
}
