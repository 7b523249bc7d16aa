//! NVMe passthrough: sends commands directly to the controller, through rings, on `/dev/ngXnY`.
//!
//! * Kernel: `IORING_OP_URING_CMD` with submission entries of 128 bytes and completions of 32
//!   (Linux 5.19). Registered buffers since Linux 6.1, which accepts them only if the registered
//!   memory has no more pages than the queue takes segments; the engine tries this when it is
//!   opened and reports the result.
//! * Limits: the smaller of the controller's and the kernel queue's, because the kernel does not
//!   split these commands. [`Limits`] name the source of each. Parts of all requests are in flight
//!   together.
//! * There is no page cache, no scheduler and no file system in between: a write is visible to
//!   readers of the block node with `O_DIRECT`, but not through pages of it that are already
//!   cached.
//! * A flush is the NVMe command; a discard is dataset management with "deallocate", one range of
//!   up to 2^32 - 1 blocks per command, because a part is one range.
//! * A failed command returns the controller's status as a message. The kernel does not retry
//!   passthrough commands as it does block I/O: a status without "do not retry" that means
//!   interrupted, not ready or a path error is transient, and the [`Lane`](crate::Lane) retries it
//!   a bounded number of times. Medium errors are final: the controller has already retried.

use std::sync::Arc;

use crate::arena::{Arena, PAGE_BYTES};
use crate::device::{Device, DeviceKind};
use crate::engine::{Engine, Queue, QueueOptions};
use crate::error::OpenError;
use crate::kind::EngineKind;
use crate::limits::Limits;
use crate::nvme::Namespace;
use crate::sys::encode::Encoder;
use crate::sys::encode_nvme::NvmeEncoder;
use crate::uring::{open_queue, probe_rings, read_a_block};

const KIND: EngineKind = EngineKind::UringCmd;

/// Runs NVMe passthrough on the character node of a namespace.
#[derive(Debug)]
pub struct UringCmdEngine {
    device: Arc<Device>,
    namespace: Namespace,
    /// Reason why registered buffers are not used, if they are not.
    refuses_registered: Option<Arc<str>>,
}

impl UringCmdEngine {
    /// Creates an engine over `device` after test rings were created, the operation probed, and one
    /// block was read into unregistered and into registered memory.
    ///
    /// # Errors
    /// [`OpenError::Engine`] with the step and the reason: not a character node (and which node
    /// is), not in this kernel, or forbidden, as for [`UringEngine`](crate::UringEngine::new).
    pub fn new(device: Arc<Device>) -> Result<Self, OpenError> {
        let Some(namespace) = device.namespace().cloned() else {
            return Err(needs_character_node(&device));
        };
        let mut engine = Self {
            device,
            namespace,
            refuses_registered: None,
        };
        probe_rings(KIND, &engine.device, || engine.encoder(1))?;
        let refused = |step, reason: String, source| OpenError::Engine {
            kind: KIND,
            step,
            reason,
            source,
        };
        // More pages than segments: before Linux 6.12 the kernel also counts the registered pages
        // after the part.
        let segments = engine.limits().segments_max.map_or(0, |limit| limit.value);
        let bytes = (2 * segments as usize).max(16) * PAGE_BYTES;
        let memory = Arena::allocate(bytes)
            .map_err(|why| refused("memory for a probe", why.to_string(), None))?;
        if let Some(Err(source)) = read_a_block(&engine, &memory, Vec::new(), KIND)?
            && let Some(errno @ (libc::EOPNOTSUPP | libc::EACCES | libc::EPERM | libc::EINVAL)) =
                source.raw_os_error()
        {
            let reason = match errno {
                libc::EOPNOTSUPP => "this kernel has no passthrough for it",
                libc::EINVAL => "the kernel refused a read of one block",
                _ => "not permitted: needs CAP_SYS_ADMIN before Linux 6.2",
            };
            return Err(refused("a read of one block", reason.into(), Some(source)));
        }
        if let Some(Err(source)) = read_a_block(&engine, &memory, vec![memory.clone()], KIND)?
            && source.raw_os_error().is_some()
        {
            let why = format!("this kernel refused one in passthrough: {source}");
            engine.refuses_registered = Some(why.into());
        }
        Ok(engine)
    }

    fn encoder(&self, depth: u32) -> NvmeEncoder {
        NvmeEncoder::new(
            Arc::clone(&self.device),
            self.namespace.clone(),
            depth,
            self.refuses_registered.clone(),
        )
    }
}

impl Engine for UringCmdEngine {
    fn name(&self) -> &'static str {
        NvmeEncoder::NAME
    }

    fn limits(&self) -> &Limits {
        self.device.limits()
    }

    fn capacity_bytes(&self) -> u64 {
        self.device.capacity_bytes()
    }

    fn queue(&self, options: &QueueOptions) -> Result<Box<dyn Queue>, OpenError> {
        open_queue(KIND, &self.device, options, self.encoder(options.depth))
    }
}

/// Returns the error for a wrong node, with the right one.
fn needs_character_node(device: &Device) -> OpenError {
    let path = device.path().display();
    let reason = match (device.kind(), device.sibling()) {
        (DeviceKind::Block, Some(node)) => format!(
            "{path} is a block device; passthrough needs the character node of its namespace, {}",
            node.display()
        ),
        (DeviceKind::Block, None) => {
            format!("{path} is no NVMe namespace; passthrough needs one (/dev/ngXnY)")
        }
        _ => format!("{path} is a file; passthrough needs an NVMe namespace (/dev/ngXnY)"),
    };
    OpenError::Engine {
        kind: KIND,
        step: "choice of the node",
        reason,
        source: None,
    }
}
