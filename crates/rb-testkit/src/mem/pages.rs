//! Sparse bytes: what was never written is zero and takes no memory.

use std::collections::HashMap;

pub(super) const PAGE: usize = 4096;

#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    pages: HashMap<u64, Box<[u8; PAGE]>>,
}

impl Pages {
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) {
        for (page, at, range) in pieces(offset, out.len()) {
            let out = &mut out[range];
            match self.pages.get(&page) {
                Some(bytes) => out.copy_from_slice(&bytes[at..at + out.len()]),
                None => out.fill(0),
            }
        }
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (page, at, range) in pieces(offset, bytes.len()) {
            let bytes = &bytes[range];
            self.page_mut(page)[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    pub(super) fn page_mut(&mut self, page: u64) -> &mut [u8; PAGE] {
        self.pages
            .entry(page)
            .or_insert_with(|| Box::new([0; PAGE]))
    }

    pub(super) fn copy_page_from(&mut self, page: u64, other: &Self) {
        match other.pages.get(&page) {
            Some(bytes) => *self.page_mut(page) = **bytes,
            None => drop(self.pages.remove(&page)),
        }
    }
}

/// The pages that `len` bytes at `offset` touch: page number, first byte in it, range of the bytes.
pub(super) fn pieces(
    offset: u64,
    len: usize,
) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let position = offset + done as u64;
        let at = (position % PAGE as u64) as usize;
        let count = (PAGE - at).min(len - done);
        let piece = (position / PAGE as u64, at, done..done + count);
        done += count;
        Some(piece)
    })
}
