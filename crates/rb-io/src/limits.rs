//! Limits on a single transfer, each with its source.
//!
//! The source makes a limit traceable: `rb probe` prints both, so a transfer that is split more
//! finely than expected can be traced to the smallest limit.

/// A limit and the source that it was read from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit<T> {
    /// The limit itself; the field that holds it names the unit.
    pub value: T,
    /// The source, for example `"BLKSSZGET"` or `"queue/max_hw_sectors_kb"`.
    pub source: &'static str,
}

impl<T> Limit<T> {
    /// Creates a limit with its source.
    pub const fn new(value: T, source: &'static str) -> Self {
        Self { value, source }
    }
}

/// Limits on discards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiscardLimits {
    /// Smallest unit in bytes that the device really deallocates.
    pub granularity: Limit<u32>,
    /// Largest discard in bytes that is sent as one part.
    pub bytes_max: Limit<u64>,
}

/// The limits of one device under one engine, read once when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Logical block in bytes, a power of two: offsets and lengths are multiples of it.
    pub block: Limit<u32>,
    /// Required alignment of transfer memory in bytes, a power of two.
    pub memory_align: Limit<u32>,
    /// Largest transfer of one part in bytes, a multiple of `block`.
    pub transfer_max: Limit<u64>,
    /// Largest number of memory segments (pages in the worst case) of one part. `None` if the
    /// kernel splits requests itself, so that the limit would only make parts needlessly small.
    pub segments_max: Option<Limit<u32>>,
    /// Boundary in bytes: no part crosses a device offset that is a multiple of it.
    pub boundary: Option<Limit<u64>>,
    /// `None` if discards are not supported.
    pub discard: Option<DiscardLimits>,
    /// Number of placement ids: a write may name 1 ..= value. `None` if placement is not sent.
    pub placements: Option<Limit<u16>>,
}

/// The unit in which scattered memory is counted against `segments_max`.
pub(crate) const SEGMENT_BYTES: u64 = 4096;

impl Limits {
    /// Creates limits with only a block size and a transfer size, for memory devices and tests.
    #[must_use]
    pub const fn simple(block: u32, transfer_max: u64, source: &'static str) -> Self {
        Self {
            block: Limit::new(block, source),
            memory_align: Limit::new(block, source),
            transfer_max: Limit::new(transfer_max, source),
            segments_max: None,
            boundary: None,
            discard: Some(DiscardLimits {
                granularity: Limit::new(block, source),
                bytes_max: Limit::new(1 << 30, source),
            }),
            placements: None,
        }
    }

    /// Checks the properties that every user of the limits relies on.
    ///
    /// # Errors
    /// A sentence that names the field, its value and its source.
    ///
    /// ```
    /// let limits = rb_io::Limits::simple(4096, 1 << 20, "example");
    /// assert_eq!(limits.validate(), Ok(()));
    /// let odd = rb_io::Limits::simple(4000, 1 << 20, "example");
    /// assert!(odd.validate().is_err());
    /// ```
    pub fn validate(&self) -> Result<(), String> {
        // Destructured, so that a new field forces a decision about its check.
        let Self {
            block,
            memory_align,
            transfer_max,
            segments_max,
            boundary,
            discard,
            placements,
        } = self;
        let power = |name: &str, value: u64, source: &str| {
            if value.is_power_of_two() {
                return Ok(());
            }
            Err(format!(
                "{name} is {value} ({source}), which is not a power of two"
            ))
        };
        power("block", block.value.into(), block.source)?;
        power(
            "memory_align",
            memory_align.value.into(),
            memory_align.source,
        )?;
        let unit = u64::from(block.value);
        if transfer_max.value < unit || !transfer_max.value.is_multiple_of(unit) {
            return Err(format!(
                "transfer_max is {} ({}), which is not a multiple of the block of {unit} bytes",
                transfer_max.value, transfer_max.source
            ));
        }
        if let Some(segments) = segments_max
            && u64::from(segments.value) * SEGMENT_BYTES < unit.max(2 * SEGMENT_BYTES)
        {
            return Err(format!(
                "segments_max is {} ({}), too few for a block",
                segments.value, segments.source
            ));
        }
        if let Some(boundary) = boundary
            && (boundary.value < unit || !boundary.value.is_multiple_of(unit))
        {
            return Err(format!(
                "boundary is {} ({}), which is not a multiple of the block of {unit} bytes",
                boundary.value, boundary.source
            ));
        }
        if let Some(discard) = discard
            && discard.bytes_max.value < unit
        {
            return Err(format!(
                "discard is at most {} bytes, less than a block",
                discard.bytes_max.value
            ));
        }
        if let Some(placements) = placements
            && placements.value == 0
        {
            return Err("placements is 0, which must be said as None".into());
        }
        Ok(())
    }
}
