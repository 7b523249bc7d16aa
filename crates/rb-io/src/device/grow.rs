//! Grows the file of a device.

use std::io;

use super::direct::{limits, settle_direct};
use super::handle::Device;
use super::size_limit::check_size_limit;
use super::space::reserve;
use crate::error::{self, OpenError, failed};

impl Device {
    /// Grows a file to `bytes` and reserves space from `from` on, if the file system can. The size
    /// that this device reports does not change; reopen it to see the new size.
    ///
    /// # Errors
    /// There is no space, or a system call failed.
    pub fn extend(&self, bytes: u64, from: u64) -> Result<(), OpenError> {
        let failed = |source| failed(&self.path, "grow", source);
        check_size_limit(&self.path, bytes)?;
        // Reserve first: a file grown without space would look complete.
        reserve(&self.file, &(from..bytes))
            .map_err(|source| error::failed(&self.path, "fallocate", source))?;
        self.file.set_len(bytes).map_err(failed)
    }

    /// Grows a file to `bytes` and updates the recorded size.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), OpenError> {
        let path = self.path.clone();
        let step = |step| {
            let path = &path;
            move |source| failed(path, step, source)
        };
        let meta = self.file.metadata().map_err(step("stat"))?;
        if meta.len() < bytes {
            check_size_limit(&path, bytes)?;
            self.file.set_len(bytes).map_err(|error| {
                let words = format!("{bytes} bytes are needed: {error}");
                step("grow")(io::Error::new(error.kind(), words))
            })?;
        }
        if self.direct && meta.len() < bytes {
            // The file was too short to verify direct I/O when it was opened.
            let (kind, report) = (self.kind, &mut self.report);
            self.direct = settle_direct(&self.path, &self.file, kind, bytes, Ok(()), report)?;
            self.limits = limits(&self.path, &self.file, self.kind, self.direct)?;
        }
        let bytes = bytes.max(meta.len());
        self.capacity_bytes = bytes - bytes % u64::from(self.limits.block.value);
        Ok(())
    }
}
