//! A part while libblkio has it.

use std::sync::Arc;

use super::board::Board;
use crate::buffer::IoBuf;
use crate::request::Part;

/// A part while libblkio has it.
pub(crate) struct Flight {
    pub(crate) part: Part,
    /// The memory that is moved instead of the part's own.
    pub(crate) bounce: Option<IoBuf>,
    /// Where its end is announced.
    pub(crate) board: Arc<Board>,
}
