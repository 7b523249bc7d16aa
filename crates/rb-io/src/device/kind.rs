//! The kinds of nodes that a device can be.

/// The kind of node that a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A regular file.
    File,
    /// A block device: drive, partition, loop device, network disk.
    Block,
    /// A character node (NVMe passthrough).
    Char,
    /// A Unix socket behind which a vhost-user-blk server has a disk.
    Socket,
}
