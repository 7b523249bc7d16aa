//! A device as a sparse set of blocks, cheap to copy and to change.

use std::collections::BTreeMap;
use std::sync::Arc;

use rb_format::FORMAT_BLOCK;
use rb_testkit::MemDevice;

const BLOCK: u64 = FORMAT_BLOCK as u64;

/// Bytes of a device; absent blocks are zero.
#[derive(Clone)]
pub(super) struct Image {
    bytes: u64,
    blocks: BTreeMap<u64, Box<[u8; FORMAT_BLOCK]>>,
}

impl Image {
    pub(super) fn of(bytes: &[u8]) -> Image {
        let mut image = Image {
            bytes: bytes.len() as u64,
            blocks: BTreeMap::new(),
        };
        for (number, block) in (0..).zip(bytes.chunks(FORMAT_BLOCK)) {
            if block.iter().any(|byte| *byte != 0) {
                image.write(number * BLOCK, block);
            }
        }
        image
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the device shorter or longer.
    pub(super) fn resize(&mut self, bytes: u64) {
        self.bytes = bytes;
        self.blocks
            .retain(|number, _| (number + 1) * BLOCK <= bytes);
    }

    /// Returns the block at a byte offset; zeros unless the whole block is on the device.
    pub(super) fn block(&self, offset: u64) -> [u8; FORMAT_BLOCK] {
        let found = self.blocks.get(&(offset / BLOCK));
        found.map_or([0; FORMAT_BLOCK], |block| **block)
    }

    /// Changes the block at a byte offset; does nothing beyond the end.
    pub(super) fn change(&mut self, offset: u64, change: impl FnOnce(&mut [u8; FORMAT_BLOCK])) {
        let number = offset / BLOCK;
        if (number + 1).saturating_mul(BLOCK) <= self.bytes {
            let zeros = || Box::new([0; FORMAT_BLOCK]);
            change(self.blocks.entry(number).or_insert_with(zeros));
        }
    }

    /// Reads `len` bytes from `offset`, a multiple of the block size.
    pub(super) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let blocks = (0..len.div_ceil(FORMAT_BLOCK) as u64)
            .map(|n| self.block(offset.saturating_add(n * BLOCK)));
        let mut bytes: Vec<u8> = blocks.flatten().collect();
        bytes.truncate(len);
        bytes
    }

    /// Writes `bytes` at `offset`, a multiple of the block size.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, piece) in (0..).zip(bytes.chunks(FORMAT_BLOCK)) {
            self.change(offset.saturating_add(number * BLOCK), |block| {
                block[..piece.len()].copy_from_slice(piece);
            });
        }
    }

    /// Makes a device that holds these bytes.
    pub(super) fn device(&self) -> Arc<MemDevice> {
        let device = MemDevice::new(self.bytes);
        for (number, block) in &self.blocks {
            device.poke(number * BLOCK, &block[..]);
        }
        device
    }
}
