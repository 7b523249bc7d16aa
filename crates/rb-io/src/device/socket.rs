//! Opens a socket: the disk of a vhost-user-blk server.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::access::Access;
use super::handle::Device;
use super::kind::DeviceKind;
use crate::blkio::server::Server;
use crate::engine::Feature;
use crate::error::{OpenError, failed};
use crate::process::Process;

pub(super) fn open(path: &Path, access: Access) -> Result<Device, OpenError> {
    // `O_PATH`: the descriptor only names the node; I/O goes through the connection.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .map_err(|source| failed(path, "open", source))?;
    let server = Server::connect(path, access)?;
    let (limits, capacity_bytes) = (server.limits, server.capacity_bytes);
    limits.validate().map_err(|reason| OpenError::Limits {
        path: path.into(),
        reason,
    })?;
    if capacity_bytes == 0 {
        return Err(OpenError::TooSmall {
            path: path.into(),
            bytes: capacity_bytes,
            block_bytes: limits.block.value,
        });
    }
    let claim = "a socket cannot be claimed: its server decides how many clients it has";
    Ok(Device {
        process: Process::current(),
        file,
        path: path.into(),
        kind: DeviceKind::Socket,
        access,
        capacity_bytes,
        direct: true,
        limits,
        report: vec![Feature::off("exclusive claim", claim)],
        backing: None,
        block_node: None,
        namespace: None,
        server: Some(server),
    })
}
