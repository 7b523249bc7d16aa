//! The error of planning a layout.

/// Reason why a layout cannot be planned, with the value and the limit.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Too few or too many classes.
    #[error("{found} slot classes, allowed is 1 to {max}")]
    Classes {
        /// Number of classes requested.
        found: usize,
        /// The largest allowed number.
        max: usize,
    },
    /// A slot capacity outside the format's range.
    #[error("slots of {slot_bytes} bytes, allowed is {min} to {max} bytes")]
    SlotBytes {
        /// Requested capacity in bytes.
        slot_bytes: u64,
        /// The smallest allowed capacity in bytes.
        min: u64,
        /// The largest allowed capacity in bytes.
        max: u64,
    },
    /// A slot capacity that is not a whole number of format blocks.
    #[error("slots of {slot_bytes} bytes are not a multiple of {multiple} bytes")]
    SlotBytesUnaligned {
        /// Requested capacity in bytes.
        slot_bytes: u64,
        /// The required multiple in bytes.
        multiple: u64,
    },
    /// Two classes of the same capacity.
    #[error("two slot classes of {slot_bytes} bytes")]
    Duplicate {
        /// The capacity that they share, in bytes.
        slot_bytes: u64,
    },
    /// A percentage outside 1 to 100.
    #[error("class of {slot_bytes} bytes: {percent} percent of the space, allowed is 1 to 100")]
    Percent {
        /// Capacity of the class in bytes.
        slot_bytes: u64,
        /// Requested percentage.
        percent: u32,
    },
    /// The percentages of all classes add up to more than 100.
    #[error("the classes ask for {sum} percent of the space together, allowed is 100")]
    PercentSum {
        /// Their sum.
        sum: u64,
    },
    /// A class that would get no slot.
    #[error("class of {slot_bytes} bytes gets no slot")]
    NoSlots {
        /// Capacity of the class in bytes.
        slot_bytes: u64,
    },
    /// More slots than slot numbers.
    #[error("{slots} slots, allowed is {max}: larger slots or a smaller device are needed")]
    TooManySlots {
        /// Number of slots that the layout would have.
        slots: u64,
        /// The largest allowed number.
        max: u64,
    },
    /// A key limit outside the format's range.
    #[error("key length limit of {found} bytes, allowed is 1 to {max}")]
    KeyLenMax {
        /// Requested limit in bytes.
        found: u32,
        /// The largest allowed limit in bytes.
        max: u32,
    },
    /// A metadata limit outside the format's range.
    #[error("metadata length limit of {found} bytes, allowed is 0 to {max}")]
    MetadataLenMax {
        /// Requested limit in bytes.
        found: u32,
        /// The largest allowed limit in bytes.
        max: u32,
    },
    /// A log length that is too short or not a whole number of format blocks.
    #[error("log of {found} bytes: at least {min} bytes and a multiple of {multiple} are needed")]
    LogBytes {
        /// Requested length in bytes.
        found: u64,
        /// The smallest allowed length in bytes.
        min: u64,
        /// The required multiple in bytes.
        multiple: u64,
    },
    /// The layout does not fit the device.
    #[error("the layout needs {needed} bytes, the device has {device_bytes}")]
    DeviceTooSmall {
        /// Lower bound of the bytes needed: the slots requested by number and one slot of every
        /// other class. With percentages more may be needed.
        needed: u64,
        /// Size of the device in bytes.
        device_bytes: u64,
    },
    /// Exact numbers and percentages together request more than the available space.
    #[error("the classes ask for {asked} bytes of slots together, there is room for {space_bytes}")]
    SharesExceedSpace {
        /// Bytes of all requested slots.
        asked: u128,
        /// Bytes available for slots on this device.
        space_bytes: u64,
    },
    /// The layout is larger than the format can address.
    #[error("the layout is larger than 2^63 bytes")]
    TooLarge,
    /// A device size was requested for classes without an exact number of slots.
    #[error("class of {slot_bytes} bytes: its number of slots is needed, not a share")]
    CountsNeeded {
        /// Capacity of the class in bytes.
        slot_bytes: u64,
    },
}
