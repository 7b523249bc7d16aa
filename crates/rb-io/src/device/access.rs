//! The rights that a device is opened with.

/// What a device may be opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Takes no lock and never writes.
    ReadOnly,
    /// Never writes, and is refused as long as someone has the device open for writing; meanwhile
    /// no other process can open it for writing. For looking at what must not move.
    ReadLocked,
    /// Exclusive: a second opener for writing is refused, in this process too.
    ReadWrite,
}
