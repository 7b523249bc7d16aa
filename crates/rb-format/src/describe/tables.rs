//! The fields of every structure, derived from the structs: one source for the output of inspection
//! and for the byte tables of `docs/format.md`.

use std::mem::{offset_of, size_of};

use crate::base::{BaseHeaderBytes, EntryBytes, SectionBytes};
use crate::continuation::ContinuationBytes;
use crate::incarnation::IncarnationBytes;
use crate::log::{BadSlotBytes, CloseBytes, LogBlockBytes, PutBytes, RemoveBytes};
use crate::policy_state::PolicyStateBytes;
use crate::slot_header::SlotHeaderBytes;
use crate::superblock::{RunBytes, SuperblockBytes};

/// A structure of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Structure {
    /// The superblock, copies A and B.
    Superblock,
    /// A run of slots in a superblock.
    Run,
    /// An incarnation block.
    Incarnation,
    /// The block in front of a payload.
    SlotHeader,
    /// The block in front of a further part of a payload.
    ContinuationHeader,
    /// A block of the delta log.
    LogBlock,
    /// A put in a log block.
    PutRecord,
    /// A remove in a log block.
    RemoveRecord,
    /// A bad slot in a log block.
    BadSlotRecord,
    /// The mark of a clean shutdown in a log block.
    CloseRecord,
    /// The header of a checkpoint base.
    BaseHeader,
    /// An entry of a base's directory.
    DirectoryEntry,
    /// The header of a base's section.
    SectionHeader,
    /// The header of the state of the eviction policy.
    PolicyState,
}

/// Position of a field in its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) name: &'static str,
}

fn field_len<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! places {
    ($struct:ident: $($field:ident),+) => {
        vec![$(Place {
            offset: offset_of!($struct, $field),
            len: field_len(|raw: &$struct| &raw.$field),
            name: stringify!($field),
        }),+]
    };
}

impl Structure {
    /// All structures.
    #[cfg(test)]
    pub(crate) const ALL: [Structure; 14] = [
        Structure::Superblock,
        Structure::Run,
        Structure::Incarnation,
        Structure::SlotHeader,
        Structure::ContinuationHeader,
        Structure::LogBlock,
        Structure::PutRecord,
        Structure::RemoveRecord,
        Structure::BadSlotRecord,
        Structure::CloseRecord,
        Structure::BaseHeader,
        Structure::DirectoryEntry,
        Structure::SectionHeader,
        Structure::PolicyState,
    ];

    /// Returns its name, which is also its heading in `docs/format.md`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Structure::Superblock => "Superblock",
            Structure::Run => "Run",
            Structure::Incarnation => "Incarnation block",
            Structure::SlotHeader => "Slot header",
            Structure::ContinuationHeader => "Continuation header",
            Structure::LogBlock => "Log block",
            Structure::PutRecord => "Put record",
            Structure::RemoveRecord => "Remove record",
            Structure::BadSlotRecord => "Bad slot record",
            Structure::CloseRecord => "Close record",
            Structure::BaseHeader => "Base header",
            Structure::DirectoryEntry => "Directory entry",
            Structure::SectionHeader => "Section header",
            Structure::PolicyState => "Policy state",
        }
    }

    /// Returns its length in bytes, without the key, metadata, further slots or body that follow
    /// it.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Structure::Superblock => size_of::<SuperblockBytes>(),
            Structure::Run => size_of::<RunBytes>(),
            Structure::Incarnation => size_of::<IncarnationBytes>(),
            Structure::SlotHeader => size_of::<SlotHeaderBytes>(),
            Structure::ContinuationHeader => size_of::<ContinuationBytes>(),
            Structure::LogBlock => size_of::<LogBlockBytes>(),
            Structure::PutRecord => size_of::<PutBytes>(),
            Structure::RemoveRecord => size_of::<RemoveBytes>(),
            Structure::BadSlotRecord => size_of::<BadSlotBytes>(),
            Structure::CloseRecord => size_of::<CloseBytes>(),
            Structure::BaseHeader => size_of::<BaseHeaderBytes>(),
            Structure::DirectoryEntry => size_of::<EntryBytes>(),
            Structure::SectionHeader => size_of::<SectionBytes>(),
            Structure::PolicyState => size_of::<PolicyStateBytes>(),
        }
    }

    /// Returns its fields in order of their offsets. A test checks that they leave no gap.
    pub(crate) fn places(self) -> Vec<Place> {
        match self {
            Structure::Superblock => {
                places!(SuperblockBytes: magic, version, checksum_kind, sequence, uuid, epoch,
                set_uuid, member_index, member_count, key_len_max, metadata_len_max, device_bytes,
                base_a_offset, base_a_bytes, base_b_offset, base_b_bytes, policy_offset,
                policy_bytes, log_offset, log_2_offset, log_bytes, formatted_at,
                features_compatible, features_read_only, features_incompatible, run_count,
                format_block, label, runs, reserved, checksum)
            }
            Structure::Run => places!(RunBytes: first_byte, stride, count, class, reserved),
            Structure::Incarnation => {
                places!(IncarnationBytes: magic, version, number, uuid, epoch, nonce, reserved,
                checksum)
            }
            Structure::SlotHeader => {
                places!(SlotHeaderBytes: magic, version, slot, uuid, epoch, generation, key_hash,
                payload_checksum, payload_len, expiry, placement, policy, key_len, metadata_len,
                more_slots, reserved, body, checksum)
            }
            Structure::ContinuationHeader => {
                places!(ContinuationBytes: magic, version, slot, uuid, epoch, generation,
                first_slot, number, more_slots, reserved, checksum)
            }
            Structure::LogBlock => {
                places!(LogBlockBytes: magic, version, incarnation, uuid, epoch, sequence,
                predecessor, durable, record_bytes, record_count, reserved, records, checksum)
            }
            Structure::PutRecord => {
                places!(PutBytes: kind, more_slots, key_len, slot, generation, payload_len,
                payload_checksum, expiry, placement, policy, metadata_len)
            }
            Structure::RemoveRecord => {
                places!(RemoveBytes: kind, reserved, key_len, generation)
            }
            Structure::BadSlotRecord => places!(BadSlotBytes: kind, reserved, slot),
            Structure::CloseRecord => places!(CloseBytes: kind, reserved),
            Structure::BaseHeader => {
                places!(BaseHeaderBytes: magic, version, incarnation, uuid, epoch, base_sequence,
                log_sequence, log_anchor, generation_floor, entries, directory_offset,
                directory_len, directory_checksum, recency_now, sections, bad_slot_count,
                bad_block_count, lifetime_slot_bytes, lifetime_log_bytes, lifetime_base_bytes,
                lifetime_discarded_bytes, lifetime_puts, lifetime_removes, lifetime_evictions,
                lifetime_openings, lifetime_errors, reserved, bad_blocks, bad_slots, checksum)
            }
            Structure::DirectoryEntry => {
                places!(EntryBytes: offset, stored_len, raw_len, hash_first, hash_last,
                log_sequence, checksum, entries, reserved)
            }
            Structure::PolicyState => {
                places!(PolicyStateBytes: magic, version, budget_len, uuid, epoch, sequence,
                policy_len, data_checksum, reserved, checksum)
            }
            Structure::SectionHeader => {
                places!(SectionBytes: magic, version, section, uuid, epoch, base_sequence, raw_len,
                entries, codec)
            }
        }
    }

    /// Returns whether it is a whole format block that ends with the checksum of all bytes before
    /// it.
    pub(crate) const fn is_block(self) -> bool {
        self.bytes() == crate::FORMAT_BLOCK
    }
}
