//! Reserves a device with persistent reservations, so that other hosts cannot write to it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::handle::Device;
use super::kind::DeviceKind;
use crate::error::OpenError;
use crate::sys::reserve::{register, release, reserve};

/// A reservation: only this host may write to the device. Released on drop. If the process is
/// killed, the device stays reserved: this host may reserve it again, others may not.
#[derive(Debug)]
pub struct Reservation {
    device: Arc<Device>,
    key: u64,
}

impl Reservation {
    /// Reserves `device` under a key that is not 0 and that no other host uses.
    ///
    /// # Errors
    /// [`OpenError::Reserve`]: another host holds the reservation, or the device does not support
    /// persistent reservations, or is a partition.
    pub fn new(device: Arc<Device>, key: u64) -> Result<Reservation, OpenError> {
        let path = device.path().to_path_buf();
        let Some(file) = block_file(&device) else {
            return Err(refused(path, "only a block device can be reserved".into()));
        };
        let reserved = register(file.as_fd(), key).and_then(|()| {
            reserve(file.as_fd(), key).inspect_err(|_| drop(register(file.as_fd(), 0)))
        });
        match reserved {
            Ok(()) => Ok(Reservation { device, key }),
            Err(why) => Err(refused(path, describe(&why))),
        }
    }

    /// Returns whether nothing else in this process has the device open: no engine and no queue,
    /// whose requests may still be in flight.
    #[must_use]
    pub fn is_sole_user(&self) -> bool {
        Arc::strong_count(&self.device) == 1
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.device.is_here() {
            return;
        }
        if let Some(file) = block_file(&self.device) {
            // A device that is gone keeps no reservation. One that does not respond keeps this
            // host's key; the host may reserve it again later.
            let released = release(file.as_fd(), self.key);
            drop(released.and_then(|()| register(file.as_fd(), 0)));
        }
    }
}

/// Returns the block node through which the kernel accepts reservations.
fn block_file(device: &Device) -> Option<&File> {
    match device.kind {
        DeviceKind::Block => Some(&device.file),
        DeviceKind::Char => device.block_node.as_ref(),
        DeviceKind::File | DeviceKind::Socket => None,
    }
}

fn refused(path: PathBuf, reason: String) -> OpenError {
    OpenError::Reserve { path, reason }
}

fn describe(why: &io::Error) -> String {
    match why.raw_os_error() {
        Some(libc::EBADE | libc::EBUSY) => {
            "another host has reserved it; if that host is gone for good, clear the \
             reservation (sg_persist --out --clear, nvme resv-release)"
                .into()
        }
        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL) => {
            format!("it has no persistent reservations, or it is a partition ({why})")
        }
        _ => why.to_string(),
    }
}
