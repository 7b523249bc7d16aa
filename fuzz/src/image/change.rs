//! Changes a device as an input says: every kind of damage, with or without right checksums, and forged metadata that
//! damage alone would not produce.

use rb_format::{
    BaseEntry, BaseHeader, Compression, Continuation, FORMAT_BLOCK, Generation, LogEncoder,
    LogPosition, MoreSlots, Record, SECTION_RANGES, SectionBuilder, SlotHeader, encode_directory,
    key_hash, log_block_offset, section_range,
};

use super::device::Image;
use super::sample::{KEYS, LARGER_SLOT, Sample, key};
use crate::base::directory_checksum;
use crate::forge::{number_at, patch, seal};
use crate::input::Input;

const BLOCK: u64 = FORMAT_BLOCK as u64;
/// Maximum number of changes: more would only be slower.
const CHANGES_MAX: usize = 12;
/// Number of sections of a base that changes can choose from.
const SECTIONS_MAX: u64 = 8;

/// Returns the further slots of a value in this slot: rarely some, and some of these lists are wrong: with a slot beyond
/// the last, or the same one twice.
fn more_of(slot: u8) -> Vec<u32> {
    let next = |n: u32| (u32::from(slot) + n) % 16;
    match slot >> 4 {
        12 => vec![next(1), next(0)],
        13 => vec![next(2), next(1), next(3)],
        14 => vec![u32::from(slot).wrapping_sub(1) % 16, 16],
        15 => vec![u32::from(slot).wrapping_add(1) % 16],
        _ => Vec::new(),
    }
}

/// Returns the length of a payload: any, or one that fills these slots of the larger class.
fn payload_len(number: u64, more: &[u32]) -> u32 {
    match more.len() {
        len @ 1.. if number.is_multiple_of(2) => {
            LARGER_SLOT * len as u32 + 1 + number as u32 % LARGER_SLOT
        }
        _ => number as u32 % (1 << 30),
    }
}

/// Effects of the changes.
#[derive(Default)]
pub(super) struct Changed {
    /// True if a slot header was given a right checksum: it may now claim bytes that were never put. Only a keyed
    /// checksum could detect that.
    pub(super) forged_values: bool,
}

pub(super) fn change(image: &mut Image, sample: &Sample, input: &mut Input<'_>) -> Changed {
    let mut work = Work {
        image,
        sample,
        log_end: sample.log_end,
        changed: Changed::default(),
    };
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        work.step(input);
    }
    work.changed
}

struct Work<'a> {
    image: &'a mut Image,
    sample: &'a Sample,
    log_end: LogPosition,
    changed: Changed,
}

impl Work<'_> {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 13 {
            0..=2 => self.patch_block(input),
            3 => self.patch_base(input),
            4 => {
                let (from, to) = (
                    input.choose(&self.sample.blocks),
                    input.choose(&self.sample.blocks),
                );
                let block = self.image.block(from);
                self.image.write(to, &block);
            }
            5 => {
                let at = input.choose(&self.sample.blocks);
                self.image.write(at, &[0; FORMAT_BLOCK]);
            }
            6 => self.rot(input),
            7 => self.resize(input),
            8 => self.relink(),
            9 => self.forge_base(input),
            10 => self.forge_log(input),
            11 => self.forge_slot(input),
            _ => self.misdirect(input),
        }
    }

    /// Patches a one-block structure; the top bit of the choice makes its checksum right.
    fn patch_block(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let blocks = &self.sample.blocks;
        let at = blocks[usize::from(choice & 0x7f) % blocks.len()];
        self.image.change(at, |block| patch(input, block));
        if choice & 0x80 != 0 {
            let is_slot = self
                .sample
                .geometry
                .slot_offset(0)
                .is_some_and(|first| at >= first);
            self.changed.forged_values |= is_slot;
            self.image.change(at, |block| seal(block));
        }
    }

    /// Patches a directory or a section, and makes every checksum above it right.
    fn patch_base(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let region = self.region(choice);
        let header = self.image.block(region);
        let section = u64::from(choice >> 1) % (SECTIONS_MAX + 1);
        // The last choice is the directory itself.
        let is_directory = section == SECTIONS_MAX;
        let directory = region.saturating_add(number_at(&header, 80) / BLOCK * BLOCK);
        let at = if is_directory {
            directory
        } else {
            let entry = self.image.block(directory);
            region.saturating_add(number_at(&entry, section as usize * 64) / BLOCK * BLOCK)
        };
        self.image.change(at, |block| patch(input, block));
        self.reseal_base(region, !is_directory);
    }

    fn region(&self, choice: u8) -> u64 {
        let superblock = &self.sample.superblock;
        [&superblock.base_a, &superblock.base_b][usize::from(choice & 1)].offset
    }

    fn reseal_base(&mut self, region: u64, sections: bool) {
        let header = self.image.block(region);
        let directory_at = region.saturating_add(number_at(&header, 80) / BLOCK * BLOCK);
        let len = number_at(&header, 88).min(SECTIONS_MAX * 64) as usize;
        let mut directory = self.image.read(directory_at, len);
        if sections {
            for entry in directory.chunks_exact_mut(64) {
                let at = region.saturating_add(number_at(entry, 0) / BLOCK * BLOCK);
                let stored = number_at(entry, 8).min(64 << 10) as usize;
                let sum = u64::from(crc32fast::hash(&self.image.read(at, stored)));
                entry[48..56].copy_from_slice(&sum.to_le_bytes());
            }
            self.image.write(directory_at, &directory);
        }
        let sequence = number_at(&header, 40);
        let sum = directory_checksum(&self.sample.superblock.identity, sequence, &directory);
        self.image.change(region, |block| {
            block[96..104].copy_from_slice(&sum.to_le_bytes());
            seal(block);
        });
    }

    /// Flips bits of a payload, or of any other content, without repairing a checksum.
    fn rot(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let block = match choice & 1 {
            0 => self.payload(choice >> 1).unwrap_or(0),
            _ => input.number() % (self.image.bytes() / BLOCK).max(1) * BLOCK,
        };
        let (at, bits) = (input.below(FORMAT_BLOCK), input.byte() | 1);
        self.image.change(block, |bytes| bytes[at] ^= bits);
    }

    /// Returns the offset of the first block of a slot's payload.
    fn payload(&self, choice: u8) -> Option<u64> {
        let geometry = &self.sample.geometry;
        geometry.payload_offset(u32::from(choice) % geometry.slots())
    }

    /// Writes a payload to another slot's position, and its header too depending on the choice: a misdirected write,
    /// whole or torn.
    fn misdirect(&mut self, input: &mut Input<'_>) {
        let (from, to) = (input.byte(), input.byte());
        let whole = if from & 0x80 == 0 { 0 } else { BLOCK };
        if let (Some(from), Some(to)) = (self.payload(from & 0x7f), self.payload(to)) {
            let bytes = self.image.read(from - whole, FORMAT_BLOCK + whole as usize);
            self.image.write(to - whole, &bytes);
        }
    }

    fn resize(&mut self, input: &mut Input<'_>) {
        let bytes = match input.byte() % 4 {
            // A few sectors less or more than the layout needs, or any small size.
            0 => self
                .image
                .bytes()
                .saturating_sub(512 * (1 + u64::from(input.byte()))),
            1 => self.image.bytes() + 512 * u64::from(input.byte()),
            _ => 512 * (input.number() % (self.sample.image.bytes() / 512)),
        };
        self.image.resize(bytes);
    }

    /// Makes the chain of the log whole again around the changed blocks.
    fn relink(&mut self) {
        let log = &self.sample.superblock.log;
        let mut before = None;
        for sequence in 1..=self.log_end.sequence {
            let at = log_block_offset(log, sequence);
            if self.image.block(at).starts_with(b"rbLOGBLK") {
                self.image.change(at, |block| {
                    if let Some(sum) = before {
                        block[48..56].copy_from_slice(&u64::to_le_bytes(sum));
                    }
                    seal(block);
                });
            }
            before = Some(number_at(&self.image.block(at), FORMAT_BLOCK - 8));
        }
    }

    /// Writes a base whose entries come from the input; everything else in it is right.
    fn forge_base(&mut self, input: &mut Input<'_>) {
        let superblock = &self.sample.superblock;
        let (region, other) = (input.byte(), input.byte());
        let region = self.region(region);
        let identity = &superblock.identity;
        let Ok(mut header) = BaseHeader::decode(&self.image.block(region), identity) else {
            return;
        };
        if other & 1 != 0 {
            header.base_sequence = input.number();
        }
        if other & 2 != 0 {
            header.generation_floor = Generation(input.number());
        }
        if other & 4 != 0 {
            header.position.sequence = input.number();
        }
        if other & 8 != 0 {
            header.recency_now = input.number() as u32;
        }
        if other & 16 != 0 {
            header.bad_slots = vec![u32::from(input.byte() % 16)];
        }
        let mut builders: Vec<SectionBuilder> = (0..SECTION_RANGES)
            .map(|range| SectionBuilder::new(range, header.position))
            .collect();
        for _ in 0..input.byte() % 16 {
            let key = key(input.byte() % KEYS);
            let slot = input.byte();
            let more = more_of(slot);
            let entry = BaseEntry {
                key: &key,
                metadata: &[],
                key_hash: key_hash(&identity.uuid, &key),
                slot: u32::from(slot % 16),
                more: MoreSlots::from(&more[..]),
                generation: Generation(self.number_near_generations(input)),
                payload_len: payload_len(input.number(), &more),
                payload_checksum: input.number() & u64::from(u32::MAX),
                placement: 0,
                policy: 0,
                expiry: 0,
                recency: input.number() as u32,
            };
            builders[section_range(entry.key_hash)].push(&entry);
        }
        let (mut directory, mut bytes) = (Vec::new(), Vec::new());
        header.entries = builders.iter().map(|builder| builder.len() as u64).sum();
        for builder in builders.into_iter().filter(|builder| !builder.is_empty()) {
            let compression = Compression::Zstd { level: 1 };
            let number = directory.len() as u32;
            let (mut entry, stored) =
                builder.finish(identity, header.base_sequence, number, compression);
            entry.offset = BLOCK + bytes.len() as u64;
            directory.push(entry);
            bytes.extend(stored);
        }
        let encoded = encode_directory(&directory, identity, header.base_sequence);
        header.sections = directory.len() as u32;
        header.directory_offset = BLOCK + bytes.len() as u64;
        header.directory_len = encoded.len;
        header.directory_checksum = encoded.checksum;
        self.image.write(region + BLOCK, &bytes);
        self.image
            .write(region + header.directory_offset, &encoded.bytes);
        self.image.write(region, &header.encode()[..]);
    }

    /// Appends records from the input to the log, in a valid chain.
    fn forge_log(&mut self, input: &mut Input<'_>) {
        let superblock = &self.sample.superblock;
        let shape = input.byte();
        let mut start = self.log_end;
        if shape & 1 != 0 {
            start.sequence = input.number().max(1);
        }
        if start.sequence > u64::MAX - 32 {
            return;
        }
        let mut encoder = LogEncoder::new(
            superblock.identity,
            input.choose(&[1, 2, 3, 1 << 21]),
            start,
        );
        for _ in 0..=shape >> 1 & 15 {
            let key = key(input.byte() % KEYS);
            let slot = input.byte();
            let more = more_of(slot);
            let slot = u32::from(slot % 16);
            let generation = Generation(self.number_near_generations(input));
            let record = match input.byte() % 8 {
                0..=3 => Record::Put {
                    key: &key,
                    slot,
                    more: MoreSlots::from(&more[..]),
                    generation,
                    payload_len: payload_len(input.number(), &more).max(1),
                    payload_checksum: input.number() & u64::from(u32::MAX),
                    placement: 0,
                    policy: 0,
                    expiry: 0,
                    metadata: &[],
                },
                4 | 5 => Record::Remove {
                    key: &key,
                    generation,
                },
                6 => Record::BadSlot { slot },
                _ => Record::Close,
            };
            encoder.push(&record, start.sequence - 1);
            if shape & 0x20 != 0 {
                encoder.seal(start.sequence - 1);
            }
        }
        encoder.seal(start.sequence - 1);
        let sealed = encoder.take_sealed();
        for (number, block) in (0..).zip(sealed.bytes.chunks_exact(FORMAT_BLOCK)) {
            let sequence = sealed.first_sequence + number;
            self.image
                .write(log_block_offset(&superblock.log, sequence), block);
        }
        if shape & 1 == 0 {
            self.log_end = encoder.position();
        }
    }

    /// Writes a slot header, or that of a further slot, with a right checksum and with claims from the input.
    fn forge_slot(&mut self, input: &mut Input<'_>) {
        let choice = input.byte();
        let slot = u32::from(choice) % self.sample.geometry.slots();
        let Some(at) = self.sample.geometry.slot_offset(slot) else {
            return;
        };
        let identity = &self.sample.superblock.identity;
        let mut bytes = [0; FORMAT_BLOCK];
        if choice & 0x80 != 0 {
            let (first_slot, shape) = (input.byte(), input.byte());
            let number = 1 + shape % 4;
            let header = Continuation {
                generation: Generation(self.number_near_generations(input)),
                slot,
                first_slot: u32::from(first_slot) % 16,
                number,
                more_slots: number.max(1 + shape / 4 % 4),
            };
            header.encode_into(identity, &mut bytes);
            // It claims nothing that the header of the first slot does not.
            return self.image.write(at, &bytes);
        }
        let key = key(input.byte() % KEYS);
        let more = more_of(input.byte());
        let header = SlotHeader {
            generation: Generation(self.number_near_generations(input)),
            slot: u32::from(input.byte()).wrapping_add(slot) % 16,
            more: more.clone().into(),
            key_hash: key_hash(&identity.uuid, &key),
            payload_len: payload_len(input.number(), &more).max(1),
            payload_checksum: input.number() & u64::from(u32::MAX),
            placement: 0,
            policy: 0,
            expiry: 0,
            key: key.into(),
            metadata: Box::default(),
        };
        header.encode_into(identity, &mut bytes);
        self.image.write(at, &bytes);
        self.changed.forged_values = true;
    }

    /// Returns a generation: any number, or one of a session that the sample knows.
    fn number_near_generations(&self, input: &mut Input<'_>) -> u64 {
        match input.byte() {
            any @ 0..=127 => {
                u64::from(any / 64 + 1) << Generation::COUNTER_BITS | u64::from(any % 64)
            }
            _ => input.number(),
        }
    }
}
