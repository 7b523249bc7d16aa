//! Passthrough commands in the layout of the kernel.
//!
//! One layout serves both interfaces: `struct nvme_passthru_cmd` of an ioctl and `struct
//! nvme_uring_cmd` of a submission entry differ only in the name of the last field
//! (`linux/nvme_ioctl.h`).

use std::io;

use zerocopy::{Immutable, IntoBytes};

use super::Namespace;
use crate::request::PlacementId;

/// A command in the kernel's layout, in native byte order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Command {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    address: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10: u32,
    cdw11: u32,
    cdw12: u32,
    cdw13: u32,
    cdw14: u32,
    cdw15: u32,
    timeout_ms: u32,
    /// Written by the kernel after an ioctl, zero otherwise.
    result: u32,
}

const _: () = assert!(size_of::<Command>() == COMMAND_BYTES);

/// Size of a command in the kernel's layout, in bytes.
pub(crate) const COMMAND_BYTES: usize = 72;

/// Opcodes: base specification sections 5.17 and 7.1, command set specification section 3.2, and
/// for I/O management TP4146 (base specification 2.1, section 7.3).
const FLUSH: u8 = 0x00;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const GET_LOG_PAGE: u8 = 0x02;
const IDENTIFY: u8 = 0x06;
const DATASET_MANAGEMENT: u8 = 0x09;
const IO_MANAGEMENT_RECEIVE: u8 = 0x12;

/// Data structures of the identify command: the CNS values of base specification section 5.17.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Identify {
    Namespace,
    Controller,
    /// The list that names the namespace's command set.
    Descriptors,
    /// The controller's limits of the NVM command set.
    NvmController,
}

/// Size of every identify data structure in bytes.
pub(crate) const IDENTIFY_BYTES: usize = 4096;

/// The largest number of blocks of a read or write: a 16-bit field, zero-based.
pub(crate) const TRANSFER_BLOCKS_MAX: u64 = 1 << 16;

/// Size of one range of a dataset management command in bytes.
pub(crate) const RANGE_BYTES: usize = 16;

/// The largest number of blocks in a range of a dataset management command.
pub(crate) const RANGE_BLOCKS_MAX: u64 = u32::MAX as u64;

impl Command {
    /// Creates an identify command. The data address and length are set by [`Self::with_data`].
    pub(crate) fn identify(what: Identify, nsid: u32) -> Self {
        let (cns, nsid) = match what {
            Identify::Namespace => (0x00, nsid),
            Identify::Controller => (0x01, 0),
            Identify::Descriptors => (0x03, nsid),
            Identify::NvmController => (0x06, 0),
        };
        Self {
            opcode: IDENTIFY,
            nsid,
            cdw10: cns,
            ..Self::default()
        }
    }

    /// Reads the SMART log page of the controller: base specification section 5.1.12.1.3.
    pub(crate) fn smart(answer_bytes: u32) -> Self {
        const ALL_NAMESPACES: u32 = u32::MAX;
        Self {
            nsid: ALL_NAMESPACES,
            ..Self::log_page(0x02, 0, answer_bytes)
        }
    }

    /// Reads the FDP statistics of an endurance group: base specification section 5.1.12.1.30.
    pub(crate) fn fdp_statistics(endurance_group: u16, answer_bytes: u32) -> Self {
        Self::log_page(0x22, endurance_group, answer_bytes)
    }

    /// Reads a log page: its number, and what it is about (the log specific identifier).
    fn log_page(page: u8, about: u16, answer_bytes: u32) -> Self {
        // The number of dwords, zero-based.
        let dwords = answer_bytes / 4 - 1;
        Self {
            opcode: GET_LOG_PAGE,
            cdw10: u32::from(page) | (dwords & 0xFFFF) << 16,
            cdw11: dwords >> 16 | u32::from(about) << 16,
            ..Self::default()
        }
    }

    /// Reads the status of every reclaim unit handle that the namespace may use (TP4146: MO 1).
    pub(crate) fn placement_handles(nsid: u32, answer_bytes: u32) -> Self {
        Self {
            opcode: IO_MANAGEMENT_RECEIVE,
            nsid,
            cdw10: 1,
            cdw11: answer_bytes / 4 - 1,
            ..Self::default()
        }
    }

    /// Reads whole blocks: command set section 3.2.4.
    pub(crate) fn read(namespace: &Namespace, offset: u64, len: u32) -> Self {
        Self::transfer(READ, namespace, offset, len)
    }

    /// Writes whole blocks, to a placement handle if it exists: command set section 3.2.6, with the
    /// directive type "data placement" (2, TP4146) and the handle's identifier as the directive.
    pub(crate) fn write(
        namespace: &Namespace,
        offset: u64,
        len: u32,
        placement: Option<PlacementId>,
    ) -> Self {
        const DATA_PLACEMENT: u32 = 2;
        let mut write = Self::transfer(WRITE, namespace, offset, len);
        let handle = placement.map(|id| usize::from(id.0.get()) - 1);
        if let Some(pid) = handle.and_then(|handle| namespace.placements.get(handle)) {
            write.cdw12 |= DATA_PLACEMENT << 20;
            write.cdw13 = u32::from(*pid) << 16;
        }
        write
    }

    /// Makes completed writes durable: base specification section 7.1.
    pub(crate) fn flush(namespace: &Namespace) -> Self {
        Self {
            opcode: FLUSH,
            nsid: namespace.id,
            ..Self::default()
        }
    }

    /// Deallocates the one range in the command's memory: command set section 3.2.3.
    pub(crate) fn deallocate(namespace: &Namespace) -> Self {
        const DEALLOCATE: u32 = 1 << 2;
        Self {
            opcode: DATASET_MANAGEMENT,
            nsid: namespace.id,
            // The number of ranges, zero-based.
            cdw10: 0,
            cdw11: DEALLOCATE,
            ..Self::default()
        }
    }

    /// Checks that a transfer or a discard is whole blocks, and how many. The controller moves the
    /// number of blocks in the command, even if the kernel mapped less memory for it: a partial
    /// block would run past the end of the memory.
    ///
    /// # Errors
    /// `InvalidInput` that names the offending number.
    pub(crate) fn check(namespace: &Namespace, offset: u64, len: u32) -> io::Result<()> {
        let block = 1_u64 << namespace.block_shift;
        let words = if !offset.is_multiple_of(block) {
            format!("offset {offset} is not a multiple of the block of {block} bytes")
        } else if len == 0 || !u64::from(len).is_multiple_of(block) {
            format!("a length of {len} bytes is not whole blocks of {block} bytes")
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, words))
    }

    /// Performs [`check`](Self::check) for a read or a write, whose number of blocks has 16 bits.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub(crate) fn check_transfer(namespace: &Namespace, offset: u64, len: u32) -> io::Result<()> {
        Self::check(namespace, offset, len)?;
        if u64::from(len) >> namespace.block_shift <= TRANSFER_BLOCKS_MAX {
            return Ok(());
        }
        let words = format!(
            "{len} bytes are more than the {TRANSFER_BLOCKS_MAX} blocks that a command can name"
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, words))
    }

    /// Returns the same command with the memory that it reads or writes.
    pub(crate) fn with_data(self, address: *mut u8, len: u32) -> Self {
        Self {
            address: address.expose_provenance() as u64,
            data_len: len,
            ..self
        }
    }

    fn transfer(opcode: u8, namespace: &Namespace, offset: u64, len: u32) -> Self {
        let block = offset >> namespace.block_shift;
        let blocks = len >> namespace.block_shift;
        Self {
            opcode,
            nsid: namespace.id,
            cdw10: block as u32,
            cdw11: (block >> 32) as u32,
            // The number of blocks, zero-based; `check_transfer` keeps it within 16 bits.
            cdw12: blocks.saturating_sub(1) & 0xffff,
            ..Self::default()
        }
    }

    /// Returns the command area of a submission entry, which is a little longer than a command.
    #[cfg(feature = "io-uring")]
    pub(crate) fn to_entry(self) -> [u8; 80] {
        let mut area = [0; 80];
        area[..COMMAND_BYTES].copy_from_slice(self.as_bytes());
        area
    }
}

/// Encodes one range of a dataset management command: command set section 3.2.3, figure "Range
/// Definition".
pub(crate) fn range(namespace: &Namespace, offset: u64, len: u64) -> [u8; RANGE_BYTES] {
    let mut range = [0; RANGE_BYTES];
    let blocks = (len >> namespace.block_shift).min(RANGE_BLOCKS_MAX) as u32;
    range[4..8].copy_from_slice(&blocks.to_le_bytes());
    range[8..].copy_from_slice(&(offset >> namespace.block_shift).to_le_bytes());
    range
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;

    fn namespace() -> Namespace {
        Namespace {
            id: 7,
            block_shift: 12,
            placements: vec![3, 0x1234],
        }
    }

    fn dword(command: &Command, number: usize) -> u32 {
        // Command dword 10 is at byte 40 of the kernel's structure.
        let at = 40 + 4 * (number - 10);
        let bytes: [u8; 4] = command.as_bytes()[at..at + 4].try_into().unwrap();
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn fields_lie_where_the_kernel_reads_them() {
        let address = std::ptr::without_provenance_mut(0x1122_3344_5566_7788);
        let read = Command::read(&namespace(), 0x5_0000_0003_u64 << 12, 16 << 12);
        let bytes = read.with_data(address, 16 << 12);
        let bytes = bytes.as_bytes();
        assert_eq!((bytes[0], bytes[4]), (0x02, 7));
        assert_eq!(bytes[24..32], 0x1122_3344_5566_7788_u64.to_le_bytes());
        assert_eq!(bytes[36..40], (16_u32 << 12).to_le_bytes());
        assert_eq!((dword(&read, 10), dword(&read, 11)), (3, 5));
        assert_eq!(dword(&read, 12), 15, "counted from zero");
    }

    #[test]
    fn a_placement_id_becomes_the_identifier_of_its_handle() {
        let write = |id| {
            let id = NonZeroU16::new(id).map(PlacementId);
            let write = Command::write(&namespace(), 4096, 4096, id);
            (dword(&write, 12), dword(&write, 13))
        };
        assert_eq!(write(0), (0, 0), "no directive");
        assert_eq!(write(1), (0x0020_0000, 3 << 16));
        assert_eq!(write(2), (0x0020_0000, 0x1234 << 16));
        assert_eq!(write(3), (0, 0), "there is no third");
    }

    #[test]
    fn part_of_a_block_is_never_sent() {
        let check = |offset, len| Command::check_transfer(&namespace(), offset, len).is_ok();
        assert!(check(0, 4096) && check(8192, 1 << 28));
        for (offset, len) in [
            (512, 4096),
            (0, 0),
            (0, 512),
            (0, 4097),
            (0, (1 << 28) + 4096),
        ] {
            assert!(!check(offset, len), "{len} bytes at {offset}");
        }
    }

    #[test]
    fn a_range_names_blocks() {
        let range = range(&namespace(), 0x9_0000_0000 << 12, 255 << 12);
        assert_eq!(range[..4], [0; 4]);
        assert_eq!(range[4..8], [255, 0, 0, 0]);
        assert_eq!(range[8..], 0x9_0000_0000_u64.to_le_bytes());
        let deallocate = Command::deallocate(&namespace());
        assert_eq!((dword(&deallocate, 10), dword(&deallocate, 11)), (0, 4));
    }
}
