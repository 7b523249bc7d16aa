//! Why a layout cannot be planned.

/// Why a layout cannot be planned, with the value and the limit.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Too few or too many classes.
    #[error("{found} slot classes, allowed is 1 to {max}")]
    Classes {
        /// Classes asked for.
        found: usize,
        /// The most allowed.
        max: usize,
    },
    /// A slot capacity outside the format's range.
    #[error("slots of {slot_bytes} bytes, allowed is {min} to {max} bytes")]
    SlotBytes {
        /// Bytes asked for.
        slot_bytes: u64,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// A slot capacity that is not whole format blocks.
    #[error("slots of {slot_bytes} bytes are not a multiple of {multiple} bytes")]
    SlotBytesUnaligned {
        /// Bytes asked for.
        slot_bytes: u64,
        /// What it must be a multiple of.
        multiple: u64,
    },
    /// Two classes of the same capacity.
    #[error("two slot classes of {slot_bytes} bytes")]
    Duplicate {
        /// The capacity they share.
        slot_bytes: u64,
    },
    /// A percentage outside 1 to 100.
    #[error("class of {slot_bytes} bytes: {percent} percent of the space, allowed is 1 to 100")]
    Percent {
        /// The class.
        slot_bytes: u64,
        /// Percent asked for.
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
        /// The class.
        slot_bytes: u64,
    },
    /// More slots than slot numbers.
    #[error("{slots} slots, allowed is {max}: larger slots or a smaller device are needed")]
    TooManySlots {
        /// Slots that the layout would have.
        slots: u64,
        /// The most allowed.
        max: u64,
    },
    /// A key limit outside the format's range.
    #[error("key length limit of {found} bytes, allowed is 1 to {max}")]
    KeyLenMax {
        /// Bytes asked for.
        found: u32,
        /// The most allowed.
        max: u32,
    },
    /// A metadata limit outside the format's range.
    #[error("metadata length limit of {found} bytes, allowed is 0 to {max}")]
    MetadataLenMax {
        /// Bytes asked for.
        found: u32,
        /// The most allowed.
        max: u32,
    },
    /// A log length that is too short or not whole format blocks.
    #[error("log of {found} bytes: at least {min} bytes and a multiple of {multiple} are needed")]
    LogBytes {
        /// Bytes asked for.
        found: u64,
        /// The least allowed.
        min: u64,
        /// What it must be a multiple of.
        multiple: u64,
    },
    /// The layout does not fit the device.
    #[error("the layout needs {needed} bytes, the device has {device_bytes}")]
    DeviceTooSmall {
        /// The least that the request needs: the slots asked for by number and one slot of
        /// every other class. With percentages it can be more.
        needed: u64,
        /// Bytes of the device.
        device_bytes: u64,
    },
    /// Exact numbers and percentages together ask for more than there is.
    #[error("the classes ask for {asked} bytes of slots together, there is room for {space_bytes}")]
    SharesExceedSpace {
        /// Bytes of all slots asked for.
        asked: u128,
        /// Bytes for slots on this device.
        space_bytes: u64,
    },
    /// The layout is larger than the format can address.
    #[error("the layout is larger than 2^63 bytes")]
    TooLarge,
    /// A device size was asked for classes that have no number of slots.
    #[error("class of {slot_bytes} bytes: its number of slots is needed, not a share")]
    CountsNeeded {
        /// The class.
        slot_bytes: u64,
    },
}
