//! Reads a device's limits from the kernel, each with its source.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{AtFlags, StatxFlags};

use super::kind::DeviceKind;
use crate::limits::{DiscardLimits, Limit, Limits};

/// A bio holds at most 256 pages (`BIO_MAX_VECS`), so scattered memory moves at most 1 MiB at a
/// time, even if the drive supports more. The kernel would split a larger request sequentially; our
/// parts are in flight together.
const TRANSFER_MAX: Limit<u64> = Limit::new(1 << 20, "BIO_MAX_VECS of 4 KiB pages");

/// Buffered files have no alignment of their own; the smallest sector keeps images portable.
const BUFFERED_BLOCK: Limit<u32> = Limit::new(512, "buffered file");

pub(super) fn limits(file: &File, kind: DeviceKind, direct: bool) -> io::Result<Limits> {
    match kind {
        DeviceKind::Block => block_limits(file, direct),
        DeviceKind::File | DeviceKind::Char | DeviceKind::Socket => file_limits(file, direct),
    }
}

fn block_limits(file: &File, direct: bool) -> io::Result<Limits> {
    let block = Limit::new(rustix::fs::ioctl_blksszget(file)?, "BLKSSZGET");
    let queue = QueueDirectory::of(file.metadata()?.rdev());
    let mut transfer_max = TRANSFER_MAX;
    for (name, source) in [
        ("max_hw_sectors_kb", "queue/max_hw_sectors_kb"),
        ("max_sectors_kb", "queue/max_sectors_kb"),
    ] {
        let bytes = queue.number(name).unwrap_or(0).saturating_mul(1024);
        if bytes >= u64::from(block.value) && bytes < transfer_max.value {
            transfer_max = Limit::new(bytes, source);
        }
    }
    transfer_max.value -= transfer_max.value % u64::from(block.value);
    Ok(Limits {
        block,
        memory_align: direct_alignment(file)
            .filter(|_| direct)
            .map_or(block, |(mem, _)| mem),
        transfer_max,
        // The block layer splits by segments itself and merges adjacent pages into one segment.
        segments_max: None,
        boundary: queue.chunk_boundary(block.value),
        discard: queue.discard(),
        placements: queue.number("max_write_streams").and_then(|streams| {
            let value = u16::try_from(streams).ok().filter(|streams| *streams > 0)?;
            Some(Limit::new(value, "queue/max_write_streams"))
        }),
    })
}

fn file_limits(file: &File, direct: bool) -> io::Result<Limits> {
    let (memory_align, block) = if !direct {
        (BUFFERED_BLOCK, BUFFERED_BLOCK)
    } else if let Some((memory_align, block)) = direct_alignment(file) {
        (memory_align, block)
    } else {
        let page = Limit::new(4096, "assumed: no statx dio alignment");
        (page, page)
    };
    let grain = u32::try_from(file.metadata()?.blksize())
        .unwrap_or(4096)
        .max(block.value);
    Ok(Limits {
        block,
        memory_align,
        transfer_max: TRANSFER_MAX,
        segments_max: None,
        boundary: None,
        discard: Some(DiscardLimits {
            granularity: Limit::new(grain, "st_blksize"),
            bytes_max: Limit::new(1 << 30, "FALLOC_FL_PUNCH_HOLE"),
        }),
        placements: None,
    })
}

/// Returns the memory and offset alignment of direct I/O (`STATX_DIOALIGN`, Linux 6.1).
pub(super) fn direct_alignment(file: &File) -> Option<(Limit<u32>, Limit<u32>)> {
    let statx = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let told = statx.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    let sane = |align: u32| align.is_power_of_two() && align <= 65536;
    if !told || !sane(statx.stx_dio_mem_align) || !sane(statx.stx_dio_offset_align) {
        return None;
    }
    Some((
        Limit::new(statx.stx_dio_mem_align, "statx dio_mem_align"),
        Limit::new(statx.stx_dio_offset_align, "statx dio_offset_align"),
    ))
}

/// `/sys/dev/block/MAJOR:MINOR/queue`; for a partition, the directory of its drive.
pub(super) struct QueueDirectory(String);

impl QueueDirectory {
    pub(super) fn of(rdev: u64) -> Self {
        let device = format!(
            "/sys/dev/block/{}:{}",
            rustix::fs::major(rdev),
            rustix::fs::minor(rdev)
        );
        let own = format!("{device}/queue");
        if fs::exists(&own).unwrap_or(false) {
            Self(own)
        } else {
            Self(format!("{device}/../queue"))
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(format!("{}/{name}", self.0)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Returns the reason why the device cannot hold a store, if any.
    pub(super) fn unfit(&self) -> Option<String> {
        let model = self.text("zoned").filter(|model| model != "none")?;
        Some(format!(
            "it is a zoned device (queue/zoned: {model}), whose zones are written from their start on, and a store writes anywhere"
        ))
    }

    /// Returns `chunk_sectors` in bytes: the drive splits transfers that cross a multiple of it,
    /// which is slow.
    fn chunk_boundary(&self, block: u32) -> Option<Limit<u64>> {
        let bytes = self.number("chunk_sectors")?.saturating_mul(512);
        let usable = bytes >= u64::from(block) && bytes.is_multiple_of(u64::from(block));
        usable.then_some(Limit::new(bytes, "queue/chunk_sectors"))
    }

    fn discard(&self) -> Option<DiscardLimits> {
        let bytes_max = self
            .number("discard_max_bytes")
            .filter(|bytes| *bytes >= 4096)?;
        let granularity = self.number("discard_granularity").unwrap_or(512).max(512);
        Some(DiscardLimits {
            granularity: Limit::new(
                u32::try_from(granularity).unwrap_or(u32::MAX),
                "queue/discard_granularity",
            ),
            bytes_max: Limit::new(bytes_max, "queue/discard_max_bytes"),
        })
    }
}
