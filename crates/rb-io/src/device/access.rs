//! Access modes of a device.

/// Access mode of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Takes no lock and never writes.
    ReadOnly,
    /// Never writes. Opening fails while another process has the device open for writing, and no
    /// other process can open it for writing until this one closes it. For inspecting data that
    /// must not change.
    ReadLocked,
    /// Exclusive: a second opener for writing is refused, even in the same process.
    ReadWrite,
}
