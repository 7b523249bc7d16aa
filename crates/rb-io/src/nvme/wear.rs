//! Decodes what a drive says of its wear: SMART / Health Information (log page 02h, base specification 2.1 section
//! 5.1.12.1.3) and FDP Statistics (log page 22h, section 5.1.12.1.30).

/// Bytes of the SMART log page.
pub(crate) const SMART_BYTES: usize = 512;
/// Bytes of the FDP statistics.
pub(crate) const FDP_BYTES: usize = 64;

/// Bytes of a data unit: a thousand blocks of 512.
const DATA_UNIT: u64 = 512_000;

/// Wear of an NVMe drive, by its own counters. Counters that do not fit 64 bits end there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wear {
    /// Used part of the drive's rated endurance in percent, by its vendor's estimate. It may exceed 100; 255 stands for
    /// more.
    pub used_percent: u8,
    /// Remaining spare capacity in percent.
    pub spare_percent: u8,
    /// Bytes that hosts have written, rounded up to 512,000.
    pub written_bytes: u64,
    /// Hours that the drive was powered on; some drives leave out those in low-power states.
    pub powered_hours: u64,
    /// Writes with placement handles; `None` without flexible data placement.
    pub placed: Option<PlacedWrites>,
}

/// Bytes written to the endurance group of a namespace with flexible data placement, since the placement was set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlacedWrites {
    /// Bytes that hosts have written.
    pub host_bytes: u64,
    /// Bytes that the drive has written for it, its own moves included.
    pub media_bytes: u64,
}

impl Wear {
    /// Decodes a SMART log page.
    pub(crate) fn decode(smart: &[u8; SMART_BYTES]) -> Wear {
        Wear {
            used_percent: smart[5],
            spare_percent: smart[3],
            written_bytes: counter(smart, 48).saturating_mul(DATA_UNIT),
            powered_hours: counter(smart, 128),
            placed: None,
        }
    }

    /// Returns the days after which the drive has used its rated endurance, at the mean rate since it was first powered
    /// on. `None` while it has used less than one percent. 0 if it has used all of it.
    #[must_use]
    pub fn days_left(&self) -> Option<u64> {
        let used = u64::from(self.used_percent);
        let days = self.powered_hours / 24;
        days.saturating_mul(100_u64.saturating_sub(used))
            .checked_div(used)
    }
}

impl PlacedWrites {
    /// Decodes FDP statistics.
    pub(crate) fn decode(fdp: &[u8; FDP_BYTES]) -> PlacedWrites {
        PlacedWrites {
            host_bytes: counter(fdp, 0),
            media_bytes: counter(fdp, 16),
        }
    }
}

/// A counter of 16 bytes.
fn counter(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes[at..].first_chunk().copied().unwrap_or_default();
    u64::try_from(u128::from_le_bytes(bytes)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_where_the_specification_has_them() {
        let mut smart = [0; SMART_BYTES];
        (smart[3], smart[5]) = (97, 4);
        smart[48..56].copy_from_slice(&2_000_000_u64.to_le_bytes());
        smart[128..130].copy_from_slice(&2400_u16.to_le_bytes());
        let wear = Wear::decode(&smart);
        let expected = Wear {
            used_percent: 4,
            spare_percent: 97,
            written_bytes: 1_024_000_000_000,
            powered_hours: 2400,
            placed: None,
        };
        assert_eq!(wear, expected);
        // 100 days for 4 percent.
        assert_eq!(wear.days_left(), Some(2400));
        let worn = |used_percent| Wear {
            used_percent,
            ..wear
        };
        assert_eq!(worn(0).days_left(), None);
        assert_eq!(worn(100).days_left(), Some(0));
        assert_eq!(worn(255).days_left(), Some(0));
        // A drive with nonsense in all of its counters.
        let full = Wear::decode(&[0xFF; SMART_BYTES]);
        assert_eq!((full.written_bytes, full.days_left()), (u64::MAX, Some(0)));

        let mut fdp = [0; FDP_BYTES];
        (fdp[1], fdp[17], fdp[40]) = (1, 2, 9);
        let placed = PlacedWrites {
            host_bytes: 256,
            media_bytes: 512,
        };
        assert_eq!(PlacedWrites::decode(&fdp), placed);
    }
}
