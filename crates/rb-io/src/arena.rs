//! Arenas: page-aligned memory for I/O, handed out in ranges.
//!
//! An arena is either allocated here or *adopted*: memory owned by the caller, such as the pinned
//! pool of an inference server. An arena is registered with the kernel as a whole, once; after that
//! any range of it can be used for fixed-buffer I/O.

mod error;
mod free;
mod handle;
mod lent;
mod page;
mod take;
#[cfg(test)]
mod tests;

pub use error::ArenaError;
pub use handle::{Arena, ArenaId};
pub use page::PAGE_BYTES;
