//! Arenas: page-aligned memory that the kernel may be given, handed out in ranges.
//!
//! An arena is either allocated here or *adopted*: memory that belongs to someone else, such as an
//! inference server's pinned pool. Registering a whole arena with the kernel once makes every
//! range of it cheap to use, wherever it begins.

mod error;
mod free;
mod handle;
mod page;
mod take;
#[cfg(test)]
mod tests;

pub use error::ArenaError;
pub use handle::{Arena, ArenaId};
pub use page::PAGE_BYTES;
