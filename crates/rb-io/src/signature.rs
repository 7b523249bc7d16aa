//! Signatures of foreign data: content that must not be overwritten by accident.
//!
//! Pure: the caller reads, this module recognises. Each row of the tables gives the position of the
//! magic bytes; the positions are those of libblkid (util-linux, `libblkid/src/superblocks` and
//! `partitions`) and of the formats' own documents, which the row names if it is not obvious. Both
//! ends of the device are searched, because several formats keep a copy, or their only superblock,
//! at the end.

mod checks;
#[cfg(test)]
mod kinds;
mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;

use table::{At, Check, PROBES, Probe};

/// A signature of foreign data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Signature {
    /// The format that it belongs to, such as `"ext2/3/4"`.
    pub name: &'static str,
    /// Offset of its magic bytes, from the start of the device.
    pub offset: u64,
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.name, self.offset)
    }
}

/// Bytes searched at either end. A little over 1 MiB at the start, because one format begins
/// exactly at 1 MiB.
const HEAD_BYTES: u64 = (1 << 20) + (64 << 10);
const TAIL_BYTES: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// Searches for every known signature on a device of `device_bytes`; the result is sorted by
/// offset.
///
/// `read` fills the slice from the given offset. It is called for both ends of the device and for
/// the few formats that keep a copy elsewhere, never beyond `device_bytes`.
///
/// # Errors
/// Any error of `read`.
pub fn find_signatures(
    device_bytes: u64,
    read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Vec<Signature>> {
    let mut view = View::read(device_bytes, read)?;
    let mut found = Vec::new();
    for probe in PROBES {
        if let Some(offset) = probe.at.offset(device_bytes)
            && view.matches(probe, offset, read)?
        {
            found.push(Signature {
                name: probe.name,
                offset,
            });
        }
    }
    found.extend(
        checks::zfs_labels(device_bytes)
            .into_iter()
            .filter_map(|label| {
                let ring = view.get(label + checks::ZFS_RING_START, checks::ZFS_RING_BYTES)?;
                let uberblock = checks::first_uberblock(ring)?;
                let offset = label + checks::ZFS_RING_START + uberblock;
                Some(Signature {
                    name: checks::ZFS,
                    offset,
                })
            }),
    );
    found.extend(checks::first_xfs_log(&view.head).map(|offset| Signature {
        name: checks::XFS_LOG,
        offset,
    }));
    found.sort_by_key(|signature| (signature.offset, signature.name));
    found.dedup();
    Ok(found)
}

/// Returns the byte ranges to zero so that [`find_signatures`] finds none of `found` again: sorted,
/// merged, on 4096-byte boundaries except at the very end of the device.
///
/// Zeroing them makes the formats unrecognisable; it does not erase their data.
#[must_use]
pub fn wipe_list(device_bytes: u64, found: &[Signature]) -> Vec<Range<u64>> {
    const GRAIN: u64 = 4096;
    let mut ranges: Vec<_> = found
        .iter()
        .map(|signature| {
            let (grain, len) = if signature.name == checks::ZFS {
                // Any of a label's 128 uberblocks revives it, so the whole label is wiped.
                (checks::ZFS_LABEL_BYTES, checks::ZFS_LABEL_BYTES)
            } else {
                (GRAIN, table::MAGIC_MAX as u64)
            };
            let start = signature.offset / grain * grain;
            let end = (signature.offset + len).next_multiple_of(grain);
            start..if grain == GRAIN { end } else { start + grain }.min(device_bytes)
        })
        .collect();
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges
        .into_iter()
        .map(|range| range.start..range.end.min(device_bytes))
    {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// The bytes of both ends of a device.
struct View {
    device_bytes: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    tail_start: u64,
}

impl View {
    fn read(
        device_bytes: u64,
        read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut head = vec![0; device_bytes.min(HEAD_BYTES) as usize];
        let mut tail = vec![0; device_bytes.min(TAIL_BYTES) as usize];
        let tail_start = device_bytes - tail.len() as u64;
        read(0, &mut head)?;
        read(tail_start, &mut tail)?;
        Ok(Self {
            device_bytes,
            head,
            tail,
            tail_start,
        })
    }

    fn get(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let end = offset.checked_add(len)?;
        if end <= self.head.len() as u64 {
            return self.head.get(offset as usize..end as usize);
        }
        let start = offset.checked_sub(self.tail_start)?;
        self.tail.get(start as usize..(start + len) as usize)
    }

    fn matches(
        &mut self,
        probe: &Probe,
        offset: u64,
        read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        let len = probe.magic.len() as u64;
        let same = match self.get(offset, len) {
            Some(bytes) => bytes == probe.magic,
            None if offset.saturating_add(len) > self.device_bytes => false,
            None => {
                let mut bytes = vec![0; probe.magic.len()];
                read(offset, &mut bytes)?;
                bytes == probe.magic
            }
        };
        if !same {
            return Ok(false);
        }
        Ok(match probe.check {
            Check::None => true,
            Check::Head(check) => check(&self.head),
            Check::Sector(check) => {
                let start = offset / SECTOR * SECTOR;
                self.get(start, SECTOR).is_some_and(check)
            }
        })
    }
}

impl At {
    /// Returns the offset on a device of this size, if it exists.
    fn offset(self, device_bytes: u64) -> Option<u64> {
        match self {
            Self::Start(offset) => Some(offset),
            Self::End(distance) => device_bytes.checked_sub(distance),
            // The last whole 64 KiB, `MD_NEW_SIZE_SECTORS` of linux/raid/md_p.h.
            Self::Md090 => (device_bytes / 65536)
                .checked_sub(1)
                .map(|unit| unit * 65536),
            // At least 8 KiB from the end, aligned to 4 KiB (md-superblock v1.0, `super_1_load`).
            Self::Md10 => {
                let sectors = (device_bytes / 512).checked_sub(16)?;
                Some((sectors - sectors % 8) * 512)
            }
        }
    }
}
