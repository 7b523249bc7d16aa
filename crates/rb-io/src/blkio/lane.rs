//! A lane to a server's disk without an engine.

use std::sync::Arc;
use std::time::Duration;

use super::queue::BlkioQueue;
use super::server::Server;
use crate::engine::{Issuer, QueueOptions};
use crate::error::OpenError;
use crate::lane::Lane;

impl Server {
    /// Creates a lane for reading the disk before there is an engine.
    pub(crate) fn lane(&self) -> Result<Lane, OpenError> {
        let options = QueueOptions {
            depth: 4,
            arenas: Vec::new(),
            issuer: Issuer::Any,
            inline: true,
            linger: Duration::ZERO,
        };
        let port = Arc::clone(&self.port);
        let queue = BlkioQueue::new(port, &self.driver, None, self.capacity_bytes, &options)?;
        Ok(Lane::new(Box::new(queue), &self.limits))
    }
}
