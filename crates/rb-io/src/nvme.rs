//! The part of NVMe that passthrough needs: commands, what identify answers, status words.
//!
//! Pure: bytes in, numbers and words out. Who sends the bytes is `sys/nvme.rs` (when a device is
//! opened) and the engine `uring_cmd`. Section numbers are those of the NVM Express Base
//! Specification 2.0 and the NVM Command Set Specification 1.0 unless another document is named.

#[cfg_attr(
    not(feature = "io-uring"),
    expect(dead_code, reason = "opening a device only reads")
)]
pub(crate) mod command;
pub(crate) mod identify;
pub(crate) mod placement;
pub(crate) mod status;

/// What a command needs to know of the namespace it goes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Namespace {
    /// Namespace identifier.
    pub(crate) id: u32,
    /// A logical block is two to the power of this many bytes.
    pub(crate) block_shift: u32,
    /// The placement identifier of each handle: the first is what the store calls id 1.
    pub(crate) placements: Vec<u16>,
}
