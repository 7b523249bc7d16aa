//! System interfaces. With `buffer.rs` the only place with unsafe code.

mod adopt;
#[cfg(feature = "libblkio")]
pub(crate) mod channel;
pub(crate) mod crc32;
#[cfg(feature = "io-uring")]
pub(crate) mod encode;
#[cfg(feature = "io-uring")]
pub(crate) mod encode_nvme;
#[cfg(any(feature = "io-uring", feature = "libblkio"))]
pub(crate) mod event;
#[cfg(feature = "libblkio")]
pub(crate) mod libblkio;
pub(crate) mod memory;
pub(crate) mod nvme;
pub(crate) mod prefetch;
pub(crate) mod process;
pub(crate) mod reserve;
pub(crate) mod residency;
#[cfg(feature = "io-uring")]
pub(crate) mod ring;
pub(crate) mod transfer;
