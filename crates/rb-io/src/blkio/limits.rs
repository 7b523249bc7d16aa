//! Converts the properties of libblkio to [`Limits`].

use blkio::Blkio;

use super::driver::Driver;
use super::step::{Step, at};
use crate::engine::Feature;
use crate::limits::{DiscardLimits, Limit, Limits};

/// Part size used if a server states no largest transfer: large enough to keep a disk busy, with
/// several parts in flight together.
const TRANSFER_CHOSEN: Limit<u64> = Limit::new(1 << 20, "chosen: libblkio max-transfer is 0, none");

const REQUEST_ALIGNMENT: &str = "libblkio request-alignment";
const BUF_ALIGNMENT: &str = "libblkio buf-alignment";
const DISCARD_ALIGNMENT: &str = "libblkio discard-alignment";
const MAX_DISCARD_LEN: &str = "libblkio max-discard-len";

impl Driver {
    /// Returns the device's limits, tightened by the properties of libblkio; without a device, the
    /// limits that follow from those properties alone.
    pub(super) fn limits(&self, device: Option<&Limits>) -> Step<Limits> {
        self.ask(|blkio| {
            let stated = Stated::read(blkio)?;
            Ok(match device {
                Some(limits) => stated.tighten(limits),
                None => stated.alone(),
            })
        })
    }

    pub(super) fn capacity_bytes(&self) -> Step<u64> {
        self.ask(|blkio| blkio.get_u64("capacity").map_err(at("capacity")))
    }

    /// Reports driver properties that do not map to a limit.
    pub(super) fn report(&self) -> Feature {
        let number = |name| {
            self.ask(|blkio| blkio.get_i32(name))
                .map_or_else(|_| "?".into(), |number| number.to_string())
        };
        let words = format!(
            "{}; a part is one of at most {} segments; optimal size {}, optimal alignment {}",
            self.kind().name(),
            number("max-segments"),
            number("optimal-io-size"),
            number("optimal-io-alignment"),
        );
        Feature::on("driver", words)
    }
}

/// The properties of libblkio that bound a request; 0 means no bound.
struct Stated {
    request_alignment: u32,
    buf_alignment: u32,
    max_transfer: u64,
    max_segment_len: u64,
    discard_alignment: u32,
    max_discard_len: u64,
}

impl Stated {
    fn read(blkio: &Blkio) -> Step<Self> {
        // No property here is negative; a negative value counts as no bound.
        let number =
            |name| -> Step<u32> { Ok(blkio.get_i32(name).map_err(at(name))?.max(0) as u32) };
        Ok(Self {
            request_alignment: number("request-alignment")?,
            buf_alignment: number("buf-alignment")?,
            max_transfer: number("max-transfer")?.into(),
            max_segment_len: number("max-segment-len")?.into(),
            discard_alignment: number("discard-alignment")?,
            max_discard_len: blkio
                .get_u64("max-discard-len")
                .map_err(at("max-discard-len"))?,
        })
    }

    fn tighten(&self, limits: &Limits) -> Limits {
        let mut limits = *limits;
        raise(&mut limits.block, self.request_alignment, REQUEST_ALIGNMENT);
        raise(&mut limits.memory_align, self.buf_alignment, BUF_ALIGNMENT);
        let bounds = [
            (self.max_transfer, "libblkio max-transfer"),
            (self.max_segment_len, "libblkio max-segment-len"),
        ];
        for (bound, source) in bounds {
            if bound > 0 && bound < limits.transfer_max.value {
                limits.transfer_max = Limit::new(bound, source);
            }
        }
        // `validate` rejects a block that is not a power of two, and a transfer smaller than a
        // block.
        let block = u64::from(limits.block.value.max(1));
        limits.transfer_max.value -= limits.transfer_max.value % block;
        if let Some(discard) = &mut limits.discard {
            raise(
                &mut discard.granularity,
                self.discard_alignment,
                DISCARD_ALIGNMENT,
            );
            if self.max_discard_len > 0 && self.max_discard_len < discard.bytes_max.value {
                discard.bytes_max = Limit::new(self.max_discard_len, MAX_DISCARD_LEN);
            }
        }
        // libblkio cannot pass a placement id.
        limits.placements = None;
        limits
    }

    /// Returns limits for a device that only libblkio can query.
    fn alone(&self) -> Limits {
        let none = Limits {
            block: Limit::new(1, REQUEST_ALIGNMENT),
            memory_align: Limit::new(1, BUF_ALIGNMENT),
            transfer_max: TRANSFER_CHOSEN,
            segments_max: None,
            boundary: None,
            // A server without discard reports a maximum length of 0.
            discard: (self.max_discard_len > 0).then_some(DiscardLimits {
                granularity: Limit::new(1, DISCARD_ALIGNMENT),
                bytes_max: Limit::new(u64::MAX, MAX_DISCARD_LEN),
            }),
            placements: None,
        };
        self.tighten(&none)
    }
}

fn raise(limit: &mut Limit<u32>, stated: u32, source: &'static str) {
    if stated > limit.value {
        *limit = Limit::new(stated, source);
    }
}
