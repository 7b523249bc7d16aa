//! Opens the character node of an NVMe namespace: identify data, kernel limits, and the claim.
//!
//! The kernel tracks mounts, swap and exclusive openers of the *block* node only, so a claim opens
//! that node exclusively and holds it. A store open on the block node then blocks one on the
//! character node, and vice versa. If a namespace has no block node (a command set without a kernel
//! driver), only a lock on the character node remains.
//!
//! The kernel does not split passthrough commands: a command larger than the queue accepts is
//! refused. So the kernel's limits apply in addition to the controller's.
//!
//! Permissions: any user who may open the node and has `CAP_SYS_ADMIN`; without that capability
//! since Linux 6.2, if the controller has a "commands supported and effects" log.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::access::Access;
use super::discover::QueueDirectory;
use super::exclusive::{is_busy, lock, patiently};
use super::handle::Device;
use super::holders;
use super::kind::DeviceKind;
use super::siblings::{Node, block_node};
use crate::engine::Feature;
use crate::error::{OpenError, failed};
use crate::limits::{Limit, Limits};
use crate::nvme::Namespace;
use crate::nvme::command::{Command, IDENTIFY_BYTES, Identify, TRANSFER_BLOCKS_MAX};
use crate::nvme::identify::{Answer, Controller, NamespaceForm, command_set};
use crate::nvme::placement::{HEAD_BYTES, answer_bytes, identifiers};
use crate::process::Process;
use crate::sys::nvme::{To, namespace_id, receive};

pub(super) fn open(path: &Path, access: Access, number: u64) -> Result<Device, OpenError> {
    let sibling = block_node(number);
    let claims = access != Access::ReadOnly;
    let block = match &sibling {
        Some(node) if claims => Some(claim(path, node)?),
        _ => None,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .open(path)
        .map_err(|source| failed(path, "open", source))?;
    let opened = file
        .metadata()
        .map_err(|source| failed(path, "stat", source))?;
    if opened.rdev() != number {
        // The path was replaced between the two calls.
        let source = io::Error::from_raw_os_error(libc::ESTALE);
        return Err(failed(path, "open", source));
    }
    if claims && block.is_none() {
        lock(path, &file, access)?;
    }
    let mut report = vec![
        Feature::on("direct I/O", "NVMe passthrough"),
        claimed(sibling.as_ref(), claims),
    ];
    let queue = sibling.map(|node| QueueDirectory::of(node.number()));
    let zoned = queue.as_ref().and_then(|queue| queue.text("zoned"));
    let found = Found::ask(path, &file, zoned.as_deref())?;
    report.extend(found.report());
    let limits = found.limits(&|name| queue.as_ref()?.number(name));
    let unusable = |reason| OpenError::Limits {
        path: path.into(),
        reason,
    };
    limits.validate().map_err(unusable)?;
    let capacity_bytes = found.form.capacity_bytes;
    if capacity_bytes == 0 {
        return Err(OpenError::TooSmall {
            path: path.into(),
            bytes: 0,
            block_bytes: limits.block.value,
        });
    }
    Ok(Device {
        process: Process::current(),
        file,
        path: path.to_path_buf(),
        kind: DeviceKind::Char,
        access,
        capacity_bytes,
        direct: true,
        limits,
        report,
        backing: None,
        block_node: block,
        namespace: Some(found.namespace),
        #[cfg(feature = "libblkio")]
        server: None,
    })
}

/// Reports how the namespace is held.
fn claimed(sibling: Option<&Node>, claims: bool) -> Feature {
    match sibling {
        Some(node) if claims => Feature::on(
            "claim",
            format!("{} is held exclusively", node.path().display()),
        ),
        Some(_) => Feature::off("claim", "a reader takes none"),
        None => Feature::off(
            "claim",
            "the namespace has no block node: a lock on the character node only",
        ),
    }
}

/// Opens the block node exclusively. Read-only access is enough for the kernel to refuse others.
fn claim(path: &Path, node: &Node) -> Result<File, OpenError> {
    let block = node.path();
    let name = block.display();
    let open = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_EXCL)
            .open(&block)
    };
    let file = patiently(open).map_err(|source| {
        if is_busy(&source) {
            let reason = format!(
                "its block node {name}: {}",
                holders::describe(node.number())
            );
            return OpenError::InUse {
                path: path.into(),
                ended: false,
                reason,
            };
        }
        let source = io::Error::new(source.kind(), format!("{name}: {source}"));
        failed(path, "claim of its block node", source)
    })?;
    // Data that others wrote through the page cache, possibly unflushed because the node is still
    // open somewhere, must reach the device before the device is searched for a file system and
    // before it is written to past that cache.
    file.sync_all()
        .map_err(|source| failed(path, "flush of its block node", source))?;
    let same = file
        .metadata()
        .is_ok_and(|meta| meta.rdev() == node.number());
    if !same {
        let source = io::Error::other(format!("{name} is another device"));
        return Err(failed(path, "claim of its block node", source));
    }
    Ok(file)
}

fn placement_handles(file: &File, nsid: u32) -> io::Result<Vec<u16>> {
    let ask = |answer: &mut [u8]| {
        // At most 128 handles of 32 bytes, and the header.
        let command = Command::placement_handles(nsid, answer.len() as u32);
        receive(file.as_fd(), To::Io, command, answer)
    };
    let mut head = [0; HEAD_BYTES];
    ask(&mut head)?;
    let mut answer = vec![0; answer_bytes(&head)];
    ask(&mut answer)?;
    Ok(identifiers(&answer))
}

/// Returns an error unless the namespace uses the NVM command set, according to its identification
/// descriptors. Those exist since NVMe 1.3, and only administrators may read them. If they are not
/// available, a block node decides: the kernel drives no command sets other than NVM and the zoned
/// one.
fn is_nvm(set: io::Result<u8>, zoned: Option<&str>) -> Result<(), String> {
    match (set, zoned) {
        (Ok(0), _) | (Err(_), Some("none")) => Ok(()),
        (Ok(2), _) | (Err(_), Some(_)) => {
            Err("it is zoned: its blocks cannot be written in any order".into())
        }
        (Ok(other), _) => Err(format!(
            "its command set is {other}; only NVM (0) has blocks to read and write"
        )),
        (Err(why), None) => Err(format!(
            "its command set is unknown: it has no block node, and its identification descriptors are not to be had: {why}"
        )),
    }
}

/// Responses of the controller.
struct Found {
    namespace: Namespace,
    form: NamespaceForm,
    controller: Controller,
    nvm: Option<Box<Answer>>,
    /// Reason why there are no placement handles, if the controller supports them.
    no_handles: Option<io::Error>,
}

impl Found {
    /// Queries the controller. `zoned` is the kernel's zone model of the block node; `None` without
    /// a block node.
    fn ask(path: &Path, file: &File, zoned: Option<&str>) -> Result<Self, OpenError> {
        let id =
            namespace_id(file.as_fd()).map_err(|source| failed(path, "NVME_IOCTL_ID", source))?;
        let identify = |what| {
            let mut answer = Box::new([0; IDENTIFY_BYTES]);
            receive(
                file.as_fd(),
                To::Admin,
                Command::identify(what, id),
                &mut answer[..],
            )
            .map(|()| answer)
        };
        let controller = identify(Identify::Controller).map_err(|source| {
            failed(
                path,
                "identify (needs CAP_SYS_ADMIN before Linux 6.2)",
                source,
            )
        })?;
        let controller = Controller::decode(&controller);
        let answer = identify(Identify::Namespace)
            .map_err(|source| failed(path, "identify of the namespace", source))?;
        // Controllers before 2.0 need not support it.
        let nvm = identify(Identify::NvmController).ok();
        let set = identify(Identify::Descriptors).map(|answer| command_set(&answer));
        let decoded = is_nvm(set, zoned).and_then(|()| NamespaceForm::decode(&answer));
        let form = decoded.map_err(|reason| OpenError::Limits {
            path: path.into(),
            reason,
        })?;
        let mut namespace = Namespace {
            id,
            block_shift: form.block_shift,
            placements: Vec::new(),
        };
        let mut no_handles = None;
        if controller.places {
            match placement_handles(file, id) {
                Ok(handles) => namespace.placements = handles,
                Err(why) => no_handles = Some(why),
            }
        }
        Ok(Self {
            namespace,
            form,
            controller,
            nvm,
            no_handles,
        })
    }

    fn report(&self) -> Vec<Feature> {
        const CACHE: &str = "volatile write cache";
        const HANDLES: &str = "placement handles";
        let cache = if self.controller.volatile_cache {
            Feature::on(CACHE, "VWC: a flush makes writes durable")
        } else {
            Feature::off(CACHE, "VWC: completed writes are durable")
        };
        let handles = match (&self.no_handles, self.namespace.placements.len()) {
            (Some(why), _) => Feature::off(HANDLES, format!("asking for them failed: {why}")),
            (None, 0) => Feature::off(HANDLES, "the controller has no flexible data placement"),
            (None, _) => Feature::on(
                HANDLES,
                format!("identifiers {:?}", self.namespace.placements),
            ),
        };
        let serial = Feature::on("serial number", self.controller.serial.clone());
        vec![serial, cache, handles]
    }

    /// Returns the smaller of each limit of the controller and of the kernel's queue. `kernel`
    /// reads a file below `queue/` of the block node.
    fn limits(&self, kernel: &dyn Fn(&str) -> Option<u64>) -> Limits {
        let block = Limit::new(1 << self.form.block_shift, "LBADS of Identify Namespace");
        let unit = u64::from(block.value);
        let mut transfer_max = Limit::new(
            TRANSFER_BLOCKS_MAX * unit,
            "16-bit block count of an NVMe command",
        );
        let hardware = kernel("max_hw_sectors_kb").map(|kib| kib.saturating_mul(1024));
        for (bytes, source) in [
            (self.controller.transfer_max, "MDTS of Identify Controller"),
            (hardware, "queue/max_hw_sectors_kb"),
        ] {
            if let Some(bytes) = bytes.filter(|bytes| (unit..transfer_max.value).contains(bytes)) {
                transfer_max = Limit::new(bytes - bytes % unit, source);
            }
        }
        let segments = kernel("max_segments").and_then(|segments| u32::try_from(segments).ok());
        let chunk = kernel("chunk_sectors").map(|sectors| sectors.saturating_mul(512));
        let boundary = chunk
            .filter(|bytes| *bytes > 0)
            .map(|bytes| Limit::new(bytes, "queue/chunk_sectors"))
            .or(self
                .form
                .boundary
                .map(|bytes| Limit::new(bytes, "NOIOB of Identify Namespace")));
        let align =
            kernel("dma_alignment").and_then(|mask| u32::try_from(mask.checked_add(1)?).ok());
        Limits {
            block,
            memory_align: align.map_or(Limit::new(4, "NVMe PRP entry: dword"), |align| {
                Limit::new(align.max(4), "queue/dma_alignment")
            }),
            transfer_max,
            // In the worst case each page of memory is a segment, and the kernel refuses commands
            // with too many.
            segments_max: Some(segments.map_or(
                Limit::new(127, "assumed: NVME_MAX_SEGS of the kernel"),
                |segments| Limit::new(segments, "queue/max_segments"),
            )),
            boundary: boundary.filter(|limit| limit.value.is_multiple_of(unit)),
            discard: self.form.discard(&self.controller, self.nvm.as_deref()),
            // At most 128 handles are read.
            placements: Some(self.namespace.placements.len() as u16)
                .filter(|count| *count > 0)
                .map(|count| Limit::new(count, "reclaim unit handle status (FDP)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mdts: u8, noiob: u8) -> Found {
        let mut answer = [0; IDENTIFY_BYTES];
        answer[..8].copy_from_slice(&(1_u64 << 18).to_le_bytes());
        answer[46] = noiob;
        answer[130] = 12;
        let form = NamespaceForm::decode(&answer).unwrap();
        let mut answer = [0; IDENTIFY_BYTES];
        answer[77] = mdts;
        Found {
            namespace: Namespace {
                id: 1,
                block_shift: 12,
                placements: vec![0, 1],
            },
            form,
            controller: Controller::decode(&answer),
            nvm: None,
            no_handles: None,
        }
    }

    /// A namespace whose descriptors could not be read was taken for a block namespace even if it
    /// was not one.
    #[test]
    fn an_unknown_command_set_is_refused() {
        let failed = || Err(io::Error::from_raw_os_error(libc::EACCES));
        for (set, zoned, words) in [
            (Ok(0), None, None),
            (Ok(0), Some("none"), None),
            (failed(), Some("none"), None),
            (Ok(2), Some("host-managed"), Some("it is zoned")),
            (failed(), Some("host-managed"), Some("it is zoned")),
            (Ok(1), None, Some("its command set is 1")),
            (failed(), None, Some("Permission denied")),
        ] {
            let refused = is_nvm(set, zoned).err();
            let said = refused.as_deref().unwrap_or_default();
            assert_eq!(refused.is_some(), words.is_some(), "{said}");
            assert!(said.contains(words.unwrap_or_default()), "{said}");
        }
    }

    /// Each limit is the smallest of all, with its source.
    #[test]
    fn the_smallest_limit_counts() {
        let kernel = |name: &str| match name {
            "max_hw_sectors_kb" => Some(256),
            "max_segments" => Some(33),
            "chunk_sectors" => Some(2048),
            "dma_alignment" => Some(511),
            _ => None,
        };
        let limits = found(3, 64).limits(&kernel);
        assert_eq!(limits.validate(), Ok(()));
        assert_eq!(
            (limits.transfer_max.value, limits.transfer_max.source),
            (32 << 10, "MDTS of Identify Controller")
        );
        assert_eq!(limits.segments_max.unwrap().value, 33);
        assert_eq!(limits.boundary.unwrap().value, 1 << 20);
        assert_eq!(limits.memory_align.value, 512);
        assert_eq!(limits.placements.unwrap().value, 2);
        assert_eq!(limits.discard, None);
        let limits = found(7, 0).limits(&kernel);
        assert_eq!(
            (limits.transfer_max.value, limits.transfer_max.source),
            (256 << 10, "queue/max_hw_sectors_kb")
        );
        // Without a block node: the controller's limits, and the known limits of the kernel.
        let limits = found(0, 64).limits(&|_| None);
        assert_eq!(limits.transfer_max.value, 256 << 20);
        assert_eq!(
            limits.boundary.unwrap().source,
            "NOIOB of Identify Namespace"
        );
        assert_eq!(
            (
                limits.segments_max.unwrap().value,
                limits.memory_align.value
            ),
            (127, 4)
        );
        assert_eq!(limits.validate(), Ok(()));
    }
}
