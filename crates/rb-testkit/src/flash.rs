//! A model of flash: how much a drive writes for what its host writes.
//!
//! A drive writes pages one after the other into an open erase block, and can only erase a whole one. A page that is
//! written again, or trimmed, leaves an invalid copy behind. When few blocks are free, the drive *cleans*: it takes the
//! block with the fewest valid pages, writes these again, and erases it. Write amplification is what was written in all
//! by what the host wrote.
//!
//! With placement handles (flexible data placement), the host names the open block that a page goes to. Pages that
//! become invalid at the same time fill the same blocks, of which cleaning then moves nothing. What cleaning moves goes to
//! a block of its own.

use std::collections::BTreeSet;

const NONE: u32 = u32::MAX;

/// Sizes of a drive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Pages that the host sees.
    pub pages: u32,
    /// Pages of an erase block.
    pub block_pages: u32,
    /// Space that the host does not see, as a part of what it sees: 0.07 for 7 %.
    pub spare: f64,
    /// Number of placement handles; at least 1.
    pub handles: u8,
}

/// Pages that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// By the host.
    pub host: u64,
    /// By the drive: the same, and what cleaning moved.
    pub media: u64,
}

impl Written {
    /// Write amplification: 1 if cleaning moved nothing, and if nothing was written.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        match self.host {
            0 => 1.0,
            host => self.media as f64 / host as f64,
        }
    }
}

/// A drive.
#[derive(Clone, Debug)]
pub struct Flash {
    shape: Shape,
    /// The place of each page, block by block; [`NONE`] if it was never written, or trimmed.
    places: Vec<u32>,
    /// The page at each place; [`NONE`] if it is invalid.
    pages: Vec<u32>,
    /// Valid pages of each block.
    valid: Vec<u32>,
    /// The full blocks by their valid pages.
    full: BTreeSet<(u32, u32)>,
    free: Vec<u32>,
    /// The next place in the open block of each handle, and then of cleaning.
    open: Vec<Option<u32>>,
    written: Written,
}

impl Flash {
    /// Makes an erased drive.
    ///
    /// # Panics
    /// A size is 0, or there is not enough spare space for the open blocks.
    #[must_use]
    pub fn new(shape: Shape) -> Flash {
        let Shape {
            pages,
            block_pages,
            spare,
            handles,
        } = shape;
        assert!(pages > 0 && block_pages > 0 && handles > 0, "{shape:?}");
        let blocks = (f64::from(pages) * (1.0 + spare) / f64::from(block_pages)).ceil() as u32;
        let needed = pages.div_ceil(block_pages) + u32::from(handles) + 3;
        assert!(blocks >= needed, "{shape:?}: {blocks} blocks, not {needed}");
        Flash {
            shape,
            places: vec![NONE; pages as usize],
            pages: vec![NONE; (blocks * block_pages) as usize],
            valid: vec![0; blocks as usize],
            full: BTreeSet::new(),
            free: (0..blocks).rev().collect(),
            open: vec![None; usize::from(handles) + 1],
            written: Written::default(),
        }
    }

    /// Writes a page with a placement handle.
    ///
    /// # Panics
    /// There is no such page or handle.
    pub fn write(&mut self, page: u32, handle: u8) {
        assert!(handle < self.shape.handles, "handle {handle}");
        self.trim(page);
        self.written.host += 1;
        self.append(page, usize::from(handle));
        // One block stays free for what cleaning moves.
        while self.free.len() <= 1 {
            self.clean();
        }
    }

    /// Says that a page is no longer needed.
    ///
    /// # Panics
    /// There is no such page.
    pub fn trim(&mut self, page: u32) {
        let place = std::mem::replace(&mut self.places[page as usize], NONE);
        if place != NONE {
            self.pages[place as usize] = NONE;
            let block = place / self.shape.block_pages;
            let valid = &mut self.valid[block as usize];
            *valid -= 1;
            if self.full.remove(&(*valid + 1, block)) {
                self.full.insert((*valid, block));
            }
        }
    }

    /// Returns what was written until now.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written
    }

    /// Counts from now on.
    pub fn reset_counts(&mut self) {
        self.written = Written::default();
    }

    /// Writes a page to an open block.
    fn append(&mut self, page: u32, stream: usize) {
        let block_pages = self.shape.block_pages;
        let place = self.open[stream].unwrap_or_else(|| {
            let block = self.free.pop().expect("a free block is kept");
            block * block_pages
        });
        let block = place / block_pages;
        self.places[page as usize] = place;
        self.pages[place as usize] = page;
        self.valid[block as usize] += 1;
        self.written.media += 1;
        let next = place + 1;
        self.open[stream] = (!next.is_multiple_of(block_pages)).then_some(next);
        if self.open[stream].is_none() {
            self.full.insert((self.valid[block as usize], block));
        }
    }

    /// Moves the valid pages of the block with the fewest, and erases it.
    fn clean(&mut self) {
        let (_, block) = self.full.pop_first().expect("the spare space is enough");
        let first = block * self.shape.block_pages;
        let cleaning = usize::from(self.shape.handles);
        for place in first..first + self.shape.block_pages {
            let page = std::mem::replace(&mut self.pages[place as usize], NONE);
            if page != NONE {
                self.append(page, cleaning);
            }
        }
        self.valid[block as usize] = 0;
        self.free.push(block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        pages: 64 * 512,
        block_pages: 64,
        spare: 0.15,
        handles: 2,
    };

    fn random(state: &mut u64, below: u32) -> u32 {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (((*state >> 32) * u64::from(below)) >> 32) as u32
    }

    #[test]
    fn overwriting_in_order_moves_nothing() {
        let mut flash = Flash::new(SHAPE);
        for page in (0..SHAPE.pages).cycle().take(5 * SHAPE.pages as usize) {
            flash.write(page, 0);
        }
        assert_eq!(flash.written().amplification(), 1.0);
    }

    /// Uniformly random writes: for greedy cleaning with large blocks the part `u` of a cleaned block that is valid solves
    /// `(u - 1) / ln u = 1 / (1 + spare)` (Desnoyers, "Analytic Models of SSD Write Performance", 2014).
    #[test]
    fn random_overwrites_amplify_as_the_formula_says() {
        for spare in [0.15, 0.28] {
            let shape = Shape { spare, ..SHAPE };
            let mut flash = Flash::new(shape);
            let mut state = 1;
            for page in 0..shape.pages {
                flash.write(page, 0);
            }
            for round in 0..12 {
                if round == 6 {
                    flash.reset_counts();
                }
                for _ in 0..shape.pages {
                    flash.write(random(&mut state, shape.pages), 0);
                }
            }
            // One block is free, and the two open ones are half full.
            let blocks = f64::from(shape.pages) * (1.0 + spare) / 64.0 - 2.0;
            let part = f64::from(shape.pages) / 64.0 / blocks;
            let (mut low, mut high) = (1e-9, 1.0 - 1e-9);
            for _ in 0..100 {
                let u: f64 = f64::midpoint(low, high);
                if (u - 1.0) / u.ln() < part {
                    low = u;
                } else {
                    high = u;
                }
            }
            let expected = 1.0 / (1.0 - low);
            let found = flash.written().amplification();
            assert!(
                (found / expected - 1.0).abs() < 0.06,
                "{found}, not {expected}"
            );
        }
    }

    /// Two logs that are overwritten in order, one much faster: apart, whole blocks become invalid.
    #[test]
    fn handles_separate_what_lives_short() {
        let run = |handles: bool| {
            let mut flash = Flash::new(SHAPE);
            let hot = SHAPE.pages / 10;
            let (mut hot_log, mut cold_log) = ((0..hot).cycle(), (hot..SHAPE.pages).cycle());
            for _ in 0..8 * SHAPE.pages {
                flash.write(hot_log.next().unwrap(), 0);
                flash.write(cold_log.next().unwrap(), u8::from(handles));
            }
            flash.written().amplification()
        };
        let (with, without) = (run(true), run(false));
        assert!(with < 1.02 && without > 1.2, "{with}, {without}");
    }

    #[test]
    fn trimmed_pages_are_not_moved() {
        let mut flash = Flash::new(SHAPE);
        let mut state = 3;
        for _ in 0..4 * SHAPE.pages {
            let page = random(&mut state, SHAPE.pages);
            flash.write(page, 0);
            flash.trim(random(&mut state, SHAPE.pages));
        }
        let trimmed = flash.written().amplification();
        assert!(trimmed < 1.1, "{trimmed}");
        let counted: u32 = flash.valid.iter().sum();
        let mapped = flash.places.iter().filter(|&&place| place != NONE).count();
        assert_eq!(counted as usize, mapped);
    }
}
