//! The part of NVMe that passthrough needs: commands, identify data, status codes.
//!
//! Pure conversions between bytes and values. The bytes are sent by `sys/nvme.rs` (when a device is
//! opened) and by the engine `uring_cmd`. Section numbers refer to the NVM Express Base
//! Specification 2.0 and the NVM Command Set Specification 1.0 unless another document is named.

#[cfg_attr(
    not(feature = "io-uring"),
    expect(dead_code, reason = "opening a device only reads")
)]
pub(crate) mod command;
pub(crate) mod identify;
pub(crate) mod placement;
pub(crate) mod status;
pub(crate) mod wear;

pub use wear::{PlacedWrites, Wear};

/// Properties of a namespace that its commands need.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Namespace {
    /// Namespace identifier.
    pub(crate) id: u32,
    /// Base-2 logarithm of the logical block size in bytes.
    pub(crate) block_shift: u32,
    /// The placement identifier of each handle; the first is placement id 1 of the store.
    pub(crate) placements: Vec<u16>,
}
