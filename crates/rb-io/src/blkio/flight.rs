//! A part while libblkio owns it.

use std::sync::Arc;

use super::board::Board;
use crate::buffer::IoBuf;
use crate::request::Part;

/// A part while libblkio owns it.
pub(crate) struct Flight {
    pub(crate) part: Part,
    /// Bounce memory that is transferred in place of the part's own.
    pub(crate) bounce: Option<IoBuf>,
    /// The board that receives the completion.
    pub(crate) board: Arc<Board>,
}
