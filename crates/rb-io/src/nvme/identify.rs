//! Decodes identify data: base specification section 5.17.2, command set specification section
//! 4.1.5.
//!
//! All fields are little-endian at fixed offsets. Only the fields that passthrough needs are read.

use super::command::IDENTIFY_BYTES;
use crate::limits::{DiscardLimits, Limit};

/// An identify data structure as bytes.
pub(crate) type Answer = [u8; IDENTIFY_BYTES];

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// Returns the endurance group of a namespace from Identify Namespace; 0 for none (ENDGID, command set section 4.1.5.1).
pub(crate) fn endurance_group(answer: &Answer) -> u16 {
    u16_at(answer, 102)
}

/// The format of a namespace, from Identify Namespace (CNS 00h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NamespaceForm {
    pub(crate) capacity_bytes: u64,
    pub(crate) block_shift: u32,
    /// NOIOB in bytes: transfers that cross a multiple of it are slower.
    pub(crate) boundary: Option<u64>,
    /// Granularity in bytes at which deallocation takes effect.
    granularity: Limit<u32>,
}

impl NamespaceForm {
    /// Decodes Identify Namespace.
    ///
    /// # Errors
    /// A message that names the property that passthrough does not support: metadata or protection
    /// information with each block, a block size outside 512 B to 64 KiB, or a size beyond any
    /// valid offset.
    pub(crate) fn decode(answer: &Answer) -> Result<Self, String> {
        let blocks = u64_at(answer, 0);
        let flbas = answer[26];
        // With more than 16 formats, bits 6:5 hold two more bits of the index.
        let high = if answer[25] > 15 { flbas >> 5 & 3 } else { 0 };
        let format = usize::from(flbas & 0xf | high << 4);
        let lbaf = 128 + 4 * format;
        let (metadata, block_shift) = (u16_at(answer, lbaf), u32::from(answer[lbaf + 2]));
        if metadata != 0 {
            return Err(format!(
                "LBA format {format} has {metadata} bytes of metadata with each block (MS of Identify \
                 Namespace); a format without metadata is needed (nvme format)"
            ));
        }
        let protection = answer[29] & 7;
        if protection != 0 {
            return Err(format!(
                "it has protection information of type {protection} (DPS of Identify Namespace); a format \
                 without it is needed (nvme format --pi=0)"
            ));
        }
        if !(9..=12).contains(&block_shift) {
            return Err(format!(
                "its logical block is 2^{block_shift} bytes (LBADS of Identify Namespace); 2^9 to 2^12 are usable"
            ));
        }
        let capacity_bytes = blocks
            .checked_mul(1 << block_shift)
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .ok_or_else(|| {
                format!("{blocks} blocks of 2^{block_shift} bytes (NSZE) are more than an offset can name")
            })?;
        let boundary = u64::from(u16_at(answer, 46)) << block_shift;
        // NPDG is a zero-based number of blocks, valid only with OPTPERF (bit 4 of NSFEAT).
        let granularity = if answer[24] & 1 << 4 == 0 {
            Limit::new(1 << block_shift, "LBADS of Identify Namespace")
        } else {
            let blocks = u32::from(u16_at(answer, 68)) + 1;
            let bytes = u32::try_from(u64::from(blocks) << block_shift).unwrap_or(u32::MAX);
            Limit::new(bytes, "NPDG of Identify Namespace")
        };
        Ok(Self {
            capacity_bytes,
            block_shift,
            boundary: (boundary > 0).then_some(boundary),
            granularity,
        })
    }

    /// Returns the limits on deallocation for `controller`; `nvm` is its data structure for the NVM
    /// command set, if it has one.
    pub(crate) fn discard(
        &self,
        controller: &Controller,
        nvm: Option<&Answer>,
    ) -> Option<DiscardLimits> {
        if !controller.deallocates {
            return None;
        }
        let blocks = |blocks: u64| blocks.saturating_mul(1 << self.block_shift);
        // DMRSL and DMSL: blocks of one range and of one command; 0 means no limit.
        let told = nvm.map_or([0, 0], |nvm| [u64::from(u32_at(nvm, 4)), u64_at(nvm, 8)]);
        let mut bytes_max = Limit::new(
            blocks(u32::MAX.into()),
            "32-bit length of an NVMe DSM range",
        );
        for (told, source) in told.into_iter().zip([
            "DMRSL of Identify Controller (NVM)",
            "DMSL of Identify Controller (NVM)",
        ]) {
            if told > 0 && blocks(told) < bytes_max.value {
                bytes_max = Limit::new(blocks(told), source);
            }
        }
        Some(DiscardLimits {
            granularity: self.granularity,
            bytes_max,
        })
    }
}

/// The properties of a controller, from Identify Controller (CNS 01h).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Controller {
    /// Serial number, without surrounding spaces.
    pub(crate) serial: String,
    /// MDTS in bytes; `None` means no limit.
    pub(crate) transfer_max: Option<u64>,
    /// VWC: completed writes need a flush to be durable.
    pub(crate) volatile_cache: bool,
    /// ONCS: the dataset management command is supported.
    deallocates: bool,
    /// CTRATT: flexible data placement is supported (TP4146).
    pub(crate) places: bool,
}

/// MDTS counts pages of CAP.MPSMIN bytes, a register that no command reads. No page is smaller than
/// this; if it is larger, parts are only smaller than necessary.
const MDTS_PAGE: u64 = 4096;

impl Controller {
    pub(crate) fn decode(answer: &Answer) -> Self {
        let mdts = u32::from(answer[77]);
        Self {
            serial: String::from_utf8_lossy(&answer[4..24]).trim().to_owned(),
            transfer_max: MDTS_PAGE
                .checked_shl(mdts)
                .filter(|bytes| mdts > 0 && *bytes >= MDTS_PAGE),
            volatile_cache: answer[525] & 1 != 0,
            deallocates: u16_at(answer, 520) & 1 << 2 != 0,
            places: u32_at(answer, 96) & 1 << 19 != 0,
        }
    }
}

/// Returns the command set of a namespace from its identification descriptors (CNS 03h). 0 is NVM,
/// which is also the default if none is named (controllers before 2.0).
pub(crate) fn command_set(descriptors: &Answer) -> u8 {
    const COMMAND_SET: u8 = 4;
    let mut rest = descriptors.as_slice();
    // Type, length, two reserved bytes, then the identifier; a length of 0 ends the list.
    while let [kind, len, _, _, after @ ..] = rest
        && *len > 0
    {
        if *kind == COMMAND_SET {
            return after.first().copied().unwrap_or(0);
        }
        rest = after.get(usize::from(*len)..).unwrap_or_default();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A namespace of 1 GiB in LBA format 1: blocks of 4 KiB.
    fn namespace() -> Answer {
        let mut answer = [0; IDENTIFY_BYTES];
        answer[..8].copy_from_slice(&(1_u64 << 18).to_le_bytes());
        answer[25] = 1;
        answer[26] = 1;
        answer[128 + 2] = 9;
        answer[132 + 2] = 12;
        answer
    }

    fn controller() -> Controller {
        let mut answer = [0; IDENTIFY_BYTES];
        answer[4..24].copy_from_slice(b"  SERIAL-1          ");
        answer[77] = 5;
        answer[520] = 4;
        answer[525] = 7;
        Controller::decode(&answer)
    }

    #[test]
    fn the_current_format_is_read() {
        let mut answer = namespace();
        answer[46] = 32;
        let form = NamespaceForm::decode(&answer).unwrap();
        assert_eq!((form.capacity_bytes, form.block_shift), (1 << 30, 12));
        assert_eq!(form.boundary, Some(128 << 10));
        answer[26] = 0;
        let form = NamespaceForm::decode(&answer).unwrap();
        assert_eq!((form.capacity_bytes, form.block_shift), (1 << 27, 9));
        // The high bits of the index apply only with more than 16 formats.
        answer[26] = 1 | 1 << 5;
        assert_eq!(NamespaceForm::decode(&answer).unwrap().block_shift, 12);
        answer[25] = 17;
        answer[128 + 17 * 4 + 2] = 11;
        assert_eq!(NamespaceForm::decode(&answer).unwrap().block_shift, 11);
    }

    #[test]
    fn unsupported_namespaces_are_refused_with_a_message() {
        let refused = |at: usize, value: u8, words: &str| {
            let mut answer = namespace();
            answer[at] = value;
            let error = NamespaceForm::decode(&answer).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        refused(132, 8, "8 bytes of metadata");
        refused(29, 1, "protection information of type 1");
        refused(134, 8, "2^8 bytes");
        // The store's blocks have 4096 bytes: part of a larger device block would be moved as a
        // whole block.
        refused(134, 13, "2^13 bytes");
        refused(134, 255, "2^255 bytes");
        refused(7, 0x7f, "more than an offset can name");
    }

    #[test]
    fn controllers_report_transfers_caches_and_discards() {
        let form = NamespaceForm::decode(&namespace()).unwrap();
        let mut controller = controller();
        assert_eq!(controller.serial, "SERIAL-1");
        assert_eq!(controller.transfer_max, Some(128 << 10));
        assert!(controller.volatile_cache && !controller.places);
        let discard = form.discard(&controller, None).unwrap();
        assert_eq!(discard.bytes_max.value, u64::from(u32::MAX) << 12);
        let mut nvm = [0; IDENTIFY_BYTES];
        nvm[4..8].copy_from_slice(&256_u32.to_le_bytes());
        nvm[8] = 255;
        let discard = form.discard(&controller, Some(&nvm)).unwrap();
        assert_eq!(discard.bytes_max.value, 255 << 12);
        assert!(discard.bytes_max.source.starts_with("DMSL"));
        controller.deallocates = false;
        assert_eq!(form.discard(&controller, None), None);
        for (mdts, bytes) in [(0, None), (20, Some(1 << 32)), (52, None), (255, None)] {
            let mut answer = [0; IDENTIFY_BYTES];
            answer[77] = mdts;
            assert_eq!(Controller::decode(&answer).transfer_max, bytes, "{mdts}");
        }
    }

    #[test]
    fn the_command_set_is_found_among_descriptors() {
        let mut answer = [0; IDENTIFY_BYTES];
        assert_eq!(command_set(&answer), 0);
        answer[..4].copy_from_slice(&[3, 16, 0, 0]);
        answer[20..25].copy_from_slice(&[4, 1, 0, 0, 2]);
        assert_eq!(command_set(&answer), 2);
        // A list without a terminator: the walk ends with the bytes.
        assert_eq!(command_set(&[255; IDENTIFY_BYTES]), 0);
        let mut cut = [1; IDENTIFY_BYTES];
        cut[IDENTIFY_BYTES - 1] = 4;
        assert_eq!(command_set(&cut), 0);
    }
}
